// The iPhone app: the only source file of an Xcode project; README.md says how to make it.
import EdgekdPictures
import SwiftUI

@main
struct PicturesApp: App {
    var body: some Scene {
        WindowGroup {
            PicturesView(folder: Bundle.main.resourceURL!.appendingPathComponent("Model"))
        }
    }
}

// The Mac's window: `swift run edgekd-pictures [MODEL]`, where MODEL is the bundle's folder Model.
#if canImport(CoreML) && canImport(SwiftUI)
import AppKit
import EdgekdPictures
import SwiftUI

@MainActor
struct PicturesApp: App {
    private var folder: URL {
        let named = CommandLine.arguments.dropFirst().first { !$0.hasPrefix("-") }
        return URL(fileURLWithPath: named ?? "Model")
    }

    init() {
        // A program without a bundle of its own is no app to the system until it says so.
        NSApplication.shared.setActivationPolicy(.regular)
    }

    var body: some Scene {
        WindowGroup("Pictures") { PicturesView(folder: folder) }
    }
}

PicturesApp.main()
#else
print("The window needs macOS; the core is tested elsewhere too: swift test")
#endif

#if canImport(CoreML) && canImport(SwiftUI)
import EdgekdCore
import SwiftUI

/// One screen: prompt, seed, steps, the picture. The whole app of the samples.
@MainActor
public struct PicturesView: View {
    private let folder: URL
    @State private var session = Session()
    @State private var prompt = ""
    @State private var seed = "0"
    @State private var steps = ""

    /// - Parameter folder: the folder `Model` of a bundle.
    public init(folder: URL) {
        self.folder = folder
    }

    public var body: some View {
        ScrollView {
            VStack(spacing: 16) {
                picture
                TextField("Prompt", text: $prompt, axis: .vertical).onSubmit { draw() }
                HStack {
                    TextField("Seed", text: $seed)
                    TextField("Steps (\(session.steps))", text: $steps)
                }
                controls
                Text(session.note).font(.footnote).foregroundStyle(.secondary)
            }
            .textFieldStyle(.roundedBorder)
            .padding()
            .frame(maxWidth: 640)
        }
        .task { await session.open(folder) }
    }

    @ViewBuilder private var picture: some View {
        if let drawn = session.picture {
            Image(decorative: drawn, scale: 1)
                .resizable()
                .scaledToFit()
                .accessibilityLabel("Picture: \(prompt)")
        }
    }

    @ViewBuilder private var controls: some View {
        switch session.state {
        case .opening:
            ProgressView("Opening the model")
        case .ready:
            HStack {
                Button("Draw") { draw() }.buttonStyle(.borderedProminent)
                if let drawn = session.picture {
                    let image = Image(decorative: drawn, scale: 1)
                    ShareLink(item: image, preview: SharePreview(prompt, image: image))
                }
            }
        case .drawing(let done, let calls):
            ProgressView("Step \(done) of \(calls)", value: Double(done), total: Double(calls))
            Button("Cancel") { session.cancel() }
        case .failed(let message):
            Label(message, systemImage: "exclamationmark.triangle")
        }
    }

    private func draw() {
        session.draw(Request(prompt: prompt, seed: UInt64(seed) ?? 0, steps: Int(steps)))
    }
}
#endif

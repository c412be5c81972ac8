#if canImport(CoreML) && canImport(SwiftUI)
import CoreGraphics
import CoreML
import EdgekdCore
import Foundation
import Observation

/// What the screen shows, and the work behind it; models run off the main thread.
@MainActor @Observable
public final class Session {
    public enum State: Equatable {
        case opening
        case ready
        case drawing(done: Int, calls: Int)
        case failed(String)
    }

    public private(set) var state = State.opening
    public private(set) var picture: CGImage?
    public private(set) var note = ""
    public private(set) var steps = 1
    private var pipeline: Pipeline?
    private var task: Task<Void, Never>?

    public init() {}

    /// Opens the folder `Model` of a bundle: its files are held against their hashes first.
    public func open(_ folder: URL) async {
        do {
            let pipeline = try await Task.detached {
                let model = try Model(folder: folder)
                let tokenizer = try Tokenizer(folder: folder.appendingPathComponent("tokenizer"))
                return Pipeline(model, tokenizer, try await CoreMLRunner(model))
            }.value
            self.pipeline = pipeline
            steps = pipeline.model.facts.generation.steps
            note = pipeline.model.facts.name
            state = .ready
        } catch {
            state = .failed(error.localizedDescription)
        }
    }

    public func draw(_ request: Request) {
        guard let pipeline, state == .ready else { return }
        let calls = request.steps ?? steps
        state = .drawing(done: 0, calls: calls)
        task = Task {
            let begun = Date()
            let work = Task.detached {
                try pipeline.draw(request) { done, calls in
                    try Task.checkCancellation()
                    Task { @MainActor in self.report(done, calls) }
                }
            }
            do {
                let drawn = try await withTaskCancellationHandler {
                    try await work.value
                } onCancel: {
                    work.cancel()
                }
                picture = image(drawn)
                let seconds = String(format: "%.1f s", Date().timeIntervalSince(begun))
                note = "Seed \(request.seed), \(calls) steps, \(seconds)"
                if drawn.cut > 0 { note += "; \(drawn.cut) tokens did not fit and were left out" }
            } catch is CancellationError {
                note = "Cancelled"
            } catch {
                note = error.localizedDescription
            }
            state = .ready
        }
    }

    public func cancel() {
        task?.cancel()
    }

    private func report(_ done: Int, _ calls: Int) {
        if case .drawing = state { state = .drawing(done: done, calls: calls) }
    }
}

/// A picture's pixels as an image of the system.
func image(_ picture: Picture) -> CGImage? {
    guard let provider = CGDataProvider(data: Data(picture.pixels) as CFData) else { return nil }
    return CGImage(
        width: picture.width, height: picture.height, bitsPerComponent: 8, bitsPerPixel: 24,
        bytesPerRow: 3 * picture.width, space: CGColorSpace(name: CGColorSpace.sRGB)!,
        bitmapInfo: CGBitmapInfo(rawValue: CGImageAlphaInfo.none.rawValue), provider: provider,
        decode: nil, shouldInterpolate: true, intent: .defaultIntent)
}
#endif

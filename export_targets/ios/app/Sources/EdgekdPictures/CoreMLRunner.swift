#if canImport(CoreML)
import CoreML
import EdgekdCore
import Foundation

/// The packages of a bundle in Core ML, in the names and shapes of Apple's layout.
///
/// Packages are compiled on the device at the first start and kept; `computeUnits` decides where
/// they run.
public final class CoreMLRunner: Runner {
    private let textEncoder: MLModel
    private let unet: MLModel
    private let decoder: MLModel

    /// Opens the packages of a model.
    public init(_ model: Model, computeUnits: MLComputeUnits = .all) async throws {
        let configuration = MLModelConfiguration()
        configuration.computeUnits = computeUnits
        let store = try Self.store(model.facts.source)
        func open(_ part: String, _ package: String) async throws -> MLModel {
            let compiled = store.appendingPathComponent("\(package).mlmodelc")
            if !FileManager.default.fileExists(atPath: compiled.path) {
                let source = model.folder.appendingPathComponent("\(part)/\(package).mlpackage")
                let fresh = try await MLModel.compileModel(at: source)
                try FileManager.default.moveItem(at: fresh, to: compiled)
            }
            return try await MLModel.load(contentsOf: compiled, configuration: configuration)
        }
        textEncoder = try await open("text_encoder", "TextEncoder")
        unet = try await open("unet", "Unet")
        decoder = try await open("vae_decoder", "VAEDecoder")
    }

    /// A folder for the compiled packages of one export.
    private static func store(_ source: String) throws -> URL {
        let root = try FileManager.default.url(
            for: .cachesDirectory, in: .userDomainMask, appropriateFor: nil, create: true)
        let folder = root.appendingPathComponent("edgekd-\(source.prefix(16))")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        return folder
    }

    public func encode(_ ids: [Int]) throws -> Tensor {
        let inputs = ["input_ids": Tensor(ids.map { Float($0) }, [1, ids.count])]
        return try run(textEncoder, inputs, "last_hidden_state")
    }

    public func predict(_ sample: Tensor, _ timestep: Float, _ conditions: [Condition]) throws -> [[Float]] {
        // The package has a batch of two: where there is one condition it is computed twice.
        let rows = [conditions[0], conditions[conditions.count - 1]]
        var inputs = [
            "sample": doubled(sample),
            "timestep": Tensor([timestep, timestep], [2]),
            "encoder_hidden_states": Tensor(
                rows.flatMap { turned($0.states) },
                [2, rows[0].states.shape[2], 1, rows[0].states.shape[1]]),
        ]
        if let guidance = conditions[0].guidance { inputs["timestep_cond"] = doubled(guidance) }
        let values = try run(unet, inputs, "noise_pred").values
        let half = values.count / 2
        return conditions.indices.map { Array(values[($0 * half)..<(($0 + 1) * half)]) }
    }

    public func decode(_ latents: Tensor) throws -> [Float] {
        try run(decoder, ["z": latents], "image").values
    }

    private func doubled(_ tensor: Tensor) -> Tensor {
        Tensor(tensor.values + tensor.values, [2] + tensor.shape.dropFirst())
    }

    /// [1, L, D] -> D rows of L values.
    private func turned(_ states: Tensor) -> [Float] {
        let (length, width) = (states.shape[1], states.shape[2])
        return (0..<width).flatMap { column in
            (0..<length).map { row in states.values[row * width + column] }
        }
    }

    private func run(_ model: MLModel, _ inputs: [String: Tensor], _ output: String) throws -> Tensor {
        let features = try MLDictionaryFeatureProvider(
            dictionary: inputs.mapValues { tensor in
                let shaped = MLShapedArray<Float>(scalars: tensor.values, shape: tensor.shape)
                return MLFeatureValue(multiArray: MLMultiArray(shaped))
            })
        let outputs = try model.prediction(from: features)
        guard let found = outputs.featureValue(for: output)?.multiArrayValue else {
            throw BundleError("a package must give `\(output)`: it is of another model")
        }
        let shaped = MLShapedArray<Float>(converting: found)
        return Tensor(shaped.scalars, shaped.shape)
    }
}
#endif

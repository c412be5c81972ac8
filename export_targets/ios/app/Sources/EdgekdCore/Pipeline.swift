import Foundation

/// Numbers and their shape, in row-major order.
public struct Tensor {
    public let values: [Float]
    public let shape: [Int]

    public init(_ values: [Float], _ shape: [Int]) {
        (self.values, self.shape) = (values, shape)
    }
}

/// What the U-Net is told beside the latents.
public struct Condition {
    /// The text encoder's last hidden states [1, L, D].
    public let states: Tensor
    /// `timestep_cond` [1, G] of U-Nets that were distilled with their guidance.
    public let guidance: Tensor?
}

/// What runs the models of a bundle: Core ML in the app, a stand-in in tests.
public protocol Runner {
    /// Token ids -> the text encoder's last hidden states [1, L, D].
    func encode(_ ids: [Int]) throws -> Tensor
    /// Latents and timestep under one or two conditions -> a prediction for each.
    func predict(_ sample: Tensor, _ timestep: Float, _ conditions: [Condition]) throws -> [[Float]]
    /// Latents [1, c, h, w] -> a picture [1, 3, H, W] in [-1, 1].
    func decode(_ latents: Tensor) throws -> [Float]
}

/// A request; nil: as the model's maker recommends.
public struct Request: Sendable {
    public var prompt: String
    public var negativePrompt = ""
    public var seed: UInt64 = 0
    public var steps: Int?
    public var guidanceScale: Double?
    public var height: Int?
    public var width: Int?

    public init(prompt: String, seed: UInt64 = 0, steps: Int? = nil) {
        (self.prompt, self.seed, self.steps) = (prompt, seed, steps)
    }
}

/// Rows of pixels, three bytes each, and how many tokens of the prompt did not fit.
public struct Picture: Sendable {
    public let width: Int
    public let height: Int
    public let pixels: [UInt8]
    public let cut: Int
}

/// Prompts to pictures, one at a time.
public final class Pipeline: @unchecked Sendable {
    public let model: Model
    private let tokenizer: Tokenizer
    private let runner: Runner

    public init(_ model: Model, _ tokenizer: Tokenizer, _ runner: Runner) {
        (self.model, self.tokenizer, self.runner) = (model, tokenizer, runner)
    }

    /// Draws one picture, from the noise that Python draws from the same seed.
    ///
    /// - Parameter onStep: is told how many calls of the U-Net are done, and of how many; what it
    ///   throws ends the drawing.
    public func draw(_ request: Request, onStep: (Int, Int) throws -> Void = { _, _ in }) throws -> Picture {
        let facts = model.facts
        let (height, width) = (request.height ?? facts.generation.height, request.width ?? facts.generation.width)
        try checkSize(height, width)
        let guidance = request.guidanceScale ?? facts.generation.guidanceScale
        try require((0...1e4).contains(guidance), "`0 <= guidanceScale <= 10000` must hold, but got \(guidance)")
        try require(
            request.negativePrompt.isEmpty || facts.guidanceWidth == nil,
            "a guidance-distilled model takes no negative prompt")
        let sampler = try makeSampler(facts.scheduler, steps: request.steps ?? facts.generation.steps)
        let tokens = tokenizer.encode(request.prompt)
        let conditions = try conditions(tokens, request, guidance)
        let shape = [1, facts.latents.channels, height / facts.latents.scale, width / facts.latents.scale]
        let size = shape.reduce(1, *)
        var random = TorchRandom(seed: request.seed)
        var latents = random.normal(size).map { $0 * sampler.initialScale }
        for (index, timestep) in sampler.timesteps.enumerated() {
            let sample = Tensor(sampler.modelInput(latents, index), shape)
            let outputs = try runner.predict(sample, timestep, conditions)
            let output = guided(outputs, Float(guidance))
            latents = sampler.step(output, latents, index) { random.normal(size) }
            try onStep(index + 1, sampler.timesteps.count)
        }
        let values = try runner.decode(Tensor(latents.map { $0 / facts.latents.factor }, shape))
        return Picture(width: width, height: height, pixels: try pixels(values, width * height), cut: tokens.cut)
    }

    private func checkSize(_ height: Int, _ width: Int) throws {
        let (native, sides) = (model.facts.generation, model.facts.sides)
        try require(
            (height, width) == (native.height, native.width) || sides.dynamic,
            "pictures must be \(native.height) by \(native.width), but got \(height) by \(width)")
        try require(
            [height, width].allSatisfy { (1...4096).contains($0) && $0 % sides.multiple == 0 },
            "height and width must be multiples of \(sides.multiple), but got \(height) by \(width)")
    }

    /// Conditions of the U-Net's calls: away from the first, where there are two, to the last
    /// (Ho and Salimans, "Classifier-Free Diffusion Guidance", arXiv 2207.12598, equation 6).
    private func conditions(_ tokens: Tokens, _ request: Request, _ guidance: Double) throws -> [Condition] {
        let positive = try runner.encode(tokens.ids)
        if let width = model.facts.guidanceWidth {
            let told = Tensor(guidanceCondition(guidance, width: width), [1, width])
            return [Condition(states: positive, guidance: told)]
        }
        let to = Condition(states: positive, guidance: nil)
        if guidance <= 1 { return [to] }
        let negative = try runner.encode(tokenizer.encode(request.negativePrompt).ids)
        return [Condition(states: negative, guidance: nil), to]
    }

    private func guided(_ outputs: [[Float]], _ scale: Float) -> [Float] {
        guard outputs.count == 2 else { return outputs[0] }
        return zip(outputs[0], outputs[1]).map { away, to in away + scale * (to - away) }
    }

    private func pixels(_ values: [Float], _ count: Int) throws -> [UInt8] {
        try require(values.count == 3 * count, "the decoder must give 3 x \(count) values")
        try require(values.allSatisfy(\.isFinite), "pictures must be finite")
        var pixels = [UInt8](repeating: 0, count: 3 * count)
        for channel in 0..<3 {
            for at in 0..<count {
                let unit = min(max(values[channel * count + at] * 0.5 + 0.5, 0), 1)
                pixels[3 * at + channel] = UInt8((unit * 255).rounded(.toNearestOrEven))
            }
        }
        return pixels
    }
}

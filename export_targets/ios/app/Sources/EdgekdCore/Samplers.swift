import Foundation

/// One session: its steps are taken once, in order.
///
/// x: latents at one noise level; output: what the U-Net predicts for them; draw: fresh standard
/// normal noise of their size. alpha-bar: share of the picture's variance left at a level; sigma:
/// the noise's deviation over the picture's scale.
public protocol Sampler {
    /// What the U-Net is told at each call.
    var timesteps: [Float] { get }
    /// Deviation of the latents that the session starts from.
    var initialScale: Float { get }
    /// The latents as the U-Net wants them at call `index`.
    func modelInput(_ x: [Float], _ index: Int) -> [Float]
    /// The latents after call `index`.
    func step(_ output: [Float], _ x: [Float], _ index: Int, draw: () -> [Float]) -> [Float]
}

extension Sampler {
    public var initialScale: Float { 1 }
    public func modelInput(_ x: [Float], _ index: Int) -> [Float] { x }
}

/// A session of so many steps.
public func makeSampler(_ config: SchedulerConfig, steps: Int) throws -> Sampler {
    switch config.name {
    case .ddim: return try DDIM(config, steps)
    case .firstOrder: return try FirstOrder(config, steps)
    case .euler: return try Euler(config, steps)
    case .lcm: return try LCM(config, steps)
    }
}

/// What an output says: x = signal * picture + noise * epsilon (arXiv 2006.11239, equation 15);
/// v = signal * epsilon - noise * picture (arXiv 2202.00512, appendix D).
private struct Level {
    let config: SchedulerConfig
    let signal: Float
    let noise: Float

    init(_ config: SchedulerConfig, signal: Float, noise: Float) {
        (self.config, self.signal, self.noise) = (config, signal, noise)
    }

    init(_ config: SchedulerConfig, alphaBar: Float) {
        self.init(config, signal: alphaBar.squareRoot(), noise: (1 - alphaBar).squareRoot())
    }

    func picture(_ x: Float, _ output: Float) -> Float {
        let found: Float
        switch config.prediction {
        case .epsilon: found = (x - noise * output) / signal
        case .velocity: found = signal * x - noise * output
        }
        guard let range = config.clipRange else { return found }
        return min(max(found, -range), range)
    }

    func epsilon(_ x: Float, _ output: Float) -> Float {
        config.prediction == .epsilon ? output : signal * output + noise * x
    }
}

/// Song et al., "Denoising Diffusion Implicit Models" (arXiv 2010.02502), equation 12 with eta 0.
private struct DDIM: Sampler {
    let timesteps: [Float]
    private let config: SchedulerConfig
    private let alphaBars: [Float]
    private let previous: [Float]

    init(_ config: SchedulerConfig, _ steps: Int) throws {
        let visited = try wholeTimesteps(config, steps)
        let table = config.alphaBars()
        let last = config.setAlphaToOne ? 1 : table[0]
        self.config = config
        timesteps = visited.map { Float($0) }
        alphaBars = visited.map { table[$0] }
        previous = visited.map { timestep in
            let place = timestep - config.trainSteps / steps
            return place >= 0 ? table[place] : last
        }
    }

    func step(_ output: [Float], _ x: [Float], _ index: Int, draw: () -> [Float]) -> [Float] {
        let here = Level(config, alphaBar: alphaBars[index])
        let next = Level(config, alphaBar: previous[index])
        return zip(x, output).map { (x: Float, output: Float) -> Float in
            next.signal * here.picture(x, output) + next.noise * here.epsilon(x, output)
        }
    }
}

/// Luo et al., "Latent Consistency Models" (arXiv 2310.04378), algorithm 3.
private struct LCM: Sampler {
    let timesteps: [Float]
    private let config: SchedulerConfig
    private let alphaBars: [Float]

    init(_ config: SchedulerConfig, _ steps: Int) throws {
        let visited = try distilledTimesteps(config, steps)
        let table = config.alphaBars()
        self.config = config
        timesteps = visited.map { Float($0) }
        alphaBars = visited.map { table[$0] }
    }

    func step(_ output: [Float], _ x: [Float], _ index: Int, draw: () -> [Float]) -> [Float] {
        let here = Level(config, alphaBar: alphaBars[index])
        // Song et al., "Consistency Models" (arXiv 2303.01469), appendix C, on scaled timesteps.
        let deviation = 0.5
        let scaled = Double(timesteps[index]) * config.timestepScaling
        let norm = scaled * scaled + deviation * deviation
        let skip = Float(deviation * deviation / norm)
        let out = Float(scaled / norm.squareRoot())
        let denoised = zip(x, output).map { (x: Float, output: Float) -> Float in
            out * here.picture(x, output) + skip * x
        }
        if index == timesteps.count - 1 { return denoised }
        let next = Level(config, alphaBar: alphaBars[index + 1])
        let fresh = draw()
        return zip(denoised, fresh).map { (denoised: Float, fresh: Float) -> Float in
            next.signal * denoised + next.noise * fresh
        }
    }
}

/// Karras et al. (arXiv 2206.00364), algorithm 2 without churn: Euler's method for the ODE
/// dx/dsigma = (x - picture) / sigma.
private struct Euler: Sampler {
    let timesteps: [Float]
    let initialScale: Float
    private let config: SchedulerConfig
    private let sigmas: [Float]

    init(_ config: SchedulerConfig, _ steps: Int) throws {
        let table = config.sigmas()
        let visited = try spacedTimesteps(config, steps)
        self.config = config
        timesteps = visited.map { Float($0) }
        sigmas = visited.map { level(table, at: $0) } + [config.lastSigma == .zero ? 0 : table[0]]
        let largest = sigmas.max()!
        // `leading` starts below the last level, where the picture's own variance still shows.
        initialScale = config.spacing == .leading ? (largest * largest + 1).squareRoot() : largest
    }

    func modelInput(_ x: [Float], _ index: Int) -> [Float] {
        let scale = (sigmas[index] * sigmas[index] + 1).squareRoot()
        return x.map { $0 / scale }
    }

    func step(_ output: [Float], _ x: [Float], _ index: Int, draw: () -> [Float]) -> [Float] {
        let sigma = sigmas[index]
        let move = sigmas[index + 1] - sigma
        let variance = sigma * sigma + 1
        let ofOutput = -sigma / variance.squareRoot()
        let isVelocity = config.prediction == .velocity
        return zip(x, output).map { (x: Float, output: Float) -> Float in
            let picture = isVelocity ? output * ofOutput + x / variance : x - sigma * output
            return x + (x - picture) / sigma * move
        }
    }
}

/// Lu et al., "DPM-Solver++" (arXiv 2211.01095), algorithm 1 in first order, which is DDIM: what
/// students are exported with for clients that have no DDIM.
private struct FirstOrder: Sampler {
    let timesteps: [Float]
    private let config: SchedulerConfig
    private let sigmas: [Double]

    init(_ config: SchedulerConfig, _ steps: Int) throws {
        let table = config.sigmas()
        let visited = try multistepTimesteps(config, steps)
        self.config = config
        timesteps = visited.map { Float($0) }
        let last: Float = config.lastSigma == .zero ? 0 : table[0]
        sigmas = (visited.map { table[$0] } + [last]).map { Double($0) }
    }

    func step(_ output: [Float], _ x: [Float], _ index: Int, draw: () -> [Float]) -> [Float] {
        let (sigma, next) = (sigmas[index], sigmas[index + 1])
        let signal = Self.signal(sigma)
        let here = Level(config, signal: Float(signal), noise: Float(sigma * signal))
        let ofX = Float(next * Self.signal(next) / (sigma * signal))
        // e^-h, where h is the step in the logarithm of signal over noise, is next / sigma.
        let ofPicture = Float(Self.signal(next) * (1 - next / sigma))
        return zip(x, output).map { (x: Float, output: Float) -> Float in
            ofX * x + ofPicture * here.picture(x, output)
        }
    }

    private static func signal(_ sigma: Double) -> Double {
        1 / (sigma * sigma + 1).squareRoot()
    }
}

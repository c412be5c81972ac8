import Foundation

/// Settings of `scheduler_config.json` that the samplers here obey; others must change nothing.
public struct SchedulerConfig: Decodable {
    enum Name: String, Decodable {
        case ddim = "DDIMScheduler"
        case firstOrder = "DPMSolverMultistepScheduler"
        case euler = "EulerDiscreteScheduler"
        case lcm = "LCMScheduler"
    }

    enum Spacing: String, Decodable { case leading, linspace, trailing }
    enum Prediction: String, Decodable {
        case epsilon
        case velocity = "v_prediction"
    }
    enum Betas: String, Decodable {
        case linear
        case scaledLinear = "scaled_linear"
    }
    enum LastSigma: String, Decodable {
        case zero
        case smallest = "sigma_min"
    }

    let name: Name
    let trainSteps: Int
    let betaStart: Double
    let betaEnd: Double
    let betas: Betas
    let spacing: Spacing
    let stepsOffset: Int
    let prediction: Prediction
    let setAlphaToOne: Bool
    let zeroSNR: Bool
    /// Where predicted pictures are cut off; nil: nowhere.
    let clipRange: Float?
    let originalSteps: Int
    let timestepScaling: Double
    let lastSigma: LastSigma

    public init(from decoder: Decoder) throws {
        let values = try decoder.container(keyedBy: Key.self)
        func read<Value: Decodable>(_ key: String, _ otherwise: Value) throws -> Value {
            try values.decodeIfPresent(Value.self, forKey: Key(key)) ?? otherwise
        }
        name = try values.decode(Name.self, forKey: Key("_class_name"))
        let isLCM = name == .lcm
        trainSteps = try read("num_train_timesteps", 1000)
        betaStart = try read("beta_start", isLCM ? 0.00085 : 0.0001)
        betaEnd = try read("beta_end", isLCM ? 0.012 : 0.02)
        betas = try read("beta_schedule", isLCM ? .scaledLinear : .linear)
        spacing = try read("timestep_spacing", isLCM || name == .ddim ? .leading : .linspace)
        stepsOffset = try read("steps_offset", 0)
        prediction = try read("prediction_type", .epsilon)
        setAlphaToOne = try read("set_alpha_to_one", true)
        zeroSNR = try read("rescale_betas_zero_snr", false)
        let clips = try (isLCM || name == .ddim) && read("clip_sample", name == .ddim)
        clipRange = clips ? Float(try read("clip_sample_range", 1.0)) : nil
        originalSteps = try read("original_inference_steps", 50)
        timestepScaling = try read("timestep_scaling", 10.0)
        lastSigma = try read("final_sigmas_type", .zero)
        for setting in Self.neutral where values.contains(Key(setting)) {
            let isNull = try values.decodeNil(forKey: Key(setting))
            let isOff = (try? values.decode(Bool.self, forKey: Key(setting))) == false
            try require(isNull || isOff, "`\(setting)` of the scheduler must be off: the app does not draw with it")
        }
        if name == .firstOrder {
            try require(read("algorithm_type", "dpmsolver++") == "dpmsolver++", "`algorithm_type` must be dpmsolver++")
            try require(read("solver_order", 2) == 1, "`solver_order` must be 1: the app draws with no other")
        }
        try checkRanges()
    }

    private func checkRanges() throws {
        try require(
            (2...1_000_000).contains(trainSteps) && (0..<trainSteps).contains(stepsOffset),
            "the scheduler's timesteps must be in range")
        try require(
            0 < betaStart && betaStart <= betaEnd && betaEnd < 1,
            "`0 < beta_start <= beta_end < 1` must hold in the scheduler's settings")
        try require(
            name != .lcm || (1...trainSteps).contains(originalSteps),
            "`1 <= original_inference_steps <= num_train_timesteps` must hold")
        // 0 / 0: nothing follows from the noise of noise alone.
        try require(!zeroSNR || prediction == .velocity, "zero terminal SNR must go with v_prediction")
    }

    private static let neutral = [
        "thresholding", "trained_betas", "use_karras_sigmas", "use_exponential_sigmas",
        "use_beta_sigmas", "use_lu_lambdas", "use_flow_sigmas", "sigma_min", "sigma_max",
    ]

    private struct Key: CodingKey {
        let stringValue: String
        let intValue: Int? = nil
        init(_ name: String) { stringValue = name }
        init?(stringValue: String) { self.stringValue = stringValue }
        init?(intValue: Int) { nil }
    }
}

extension SchedulerConfig {
    /// The products alpha-bar of Ho et al., "Denoising Diffusion Probabilistic Models" (arXiv
    /// 2006.11239, equation 4), rounded to single precision where torch rounds.
    func alphaBars() -> [Float] {
        let table: [Float]
        switch betas {
        case .linear: table = ramp(betaStart, betaEnd, trainSteps)
        case .scaledLinear:
            table = ramp(betaStart.squareRoot(), betaEnd.squareRoot(), trainSteps).map { $0 * $0 }
        }
        let bars = products(table.map { 1 - $0 })
        return zeroSNR ? zeroTerminal(bars) : bars
    }

    /// The noise over the picture's scale at every training timestep, rising.
    func sigmas() -> [Float] {
        var table = alphaBars()
        // All but zero: the first sigma must not be infinite.
        if zeroSNR { table[table.count - 1] = 1 / Float(1 << 24) }
        return table.map { ((1 - $0) / $0).squareRoot() }
    }
}

private func products(_ values: [Float]) -> [Float] {
    var product = 1.0
    return values.map {
        product *= Double($0)
        return Float(product)
    }
}

/// From both ends to the middle, each value rounded once, as torch's vector code does.
private func ramp(_ start: Double, _ stop: Double, _ count: Int) -> [Float] {
    let (first, last) = (Float(start), Float(stop))
    let step = Double((last - first) / Float(count - 1))
    return (0..<count).map { (index: Int) -> Float in
        if index < count / 2 { return Float(Double(first) + step * Double(index)) }
        return Float(Double(last) - step * Double(count - 1 - index))
    }
}

/// Lin et al., "Common Diffusion Noise Schedules and Sample Steps are Flawed" (arXiv 2305.08891),
/// algorithm 1: the last level is noise alone.
private func zeroTerminal(_ bars: [Float]) -> [Float] {
    let roots = bars.map { $0.squareRoot() }
    let last = roots[roots.count - 1]
    let scale = roots[0] / (roots[0] - last)
    let scaled = roots.map { root -> Float in
        let moved = (root - last) * scale
        return moved * moved
    }
    return products(
        scaled.indices.map { index -> Float in
            let alpha = index == 0 ? scaled[0] : scaled[index] / scaled[index - 1]
            return 1 - (1 - alpha)
        })
}

/// Timesteps of a session, falling (arXiv 2305.08891, table 2); `linspace` gives fractions.
func spacedTimesteps(_ config: SchedulerConfig, _ steps: Int) throws -> [Double] {
    let count = config.trainSteps
    try require((1...count).contains(steps), "`1 <= steps <= \(count)` must hold, but got \(steps)")
    let visited: [Double]
    switch config.spacing {
    case .linspace:
        visited = linspace(Double(count - 1), steps).map { Double(Float($0)) }
    case .trailing:
        // numpy.arange's stride, the difference of its first two values: halves round by its last bit.
        let stride = Double(count) - Double(count) / Double(steps) - Double(count)
        visited = (0..<steps).map { (index: Int) -> Double in
            rounded(Double(count) + Double(index) * stride) - 1
        }
    case .leading:
        visited = (0..<steps).map { (index: Int) -> Double in
            Double((steps - 1 - index) * (count / steps) + config.stepsOffset)
        }
    }
    try require(visited[0] < Double(count), "the first timestep must be below \(count): take fewer steps")
    return visited
}

/// As `spacedTimesteps`, for samplers that look single timesteps up.
func wholeTimesteps(_ config: SchedulerConfig, _ steps: Int) throws -> [Int] {
    let spaced = try spacedTimesteps(config, steps)
    if config.spacing != .linspace { return spaced.map { Int($0) } }
    // Before they are rounded to single precision, which could fall on the other side.
    return linspace(Double(config.trainSteps - 1), steps).map { Int(rounded($0)) }
}

/// As `wholeTimesteps`, with a point more, which is left out: the lowest, where the last step ends.
func multistepTimesteps(_ config: SchedulerConfig, _ steps: Int) throws -> [Int] {
    let count = config.trainSteps
    try require((1..<count).contains(steps), "`1 <= steps < \(count)` must hold, but got \(steps)")
    switch config.spacing {
    case .trailing: return try wholeTimesteps(config, steps)
    case .linspace: return linspace(Double(count - 1), steps + 1).dropLast().map { Int(rounded($0)) }
    case .leading:
        return (0..<steps).map { (index: Int) -> Int in
            (steps - index) * (count / (steps + 1)) + config.stepsOffset
        }
    }
}

/// The timesteps of consistency students: evenly among those that they were distilled on.
func distilledTimesteps(_ config: SchedulerConfig, _ steps: Int) throws -> [Int] {
    let original = config.originalSteps
    try require((1...original).contains(steps), "`1 <= steps <= \(original)` must hold, but got \(steps)")
    let skip = config.trainSteps / original
    return (0..<steps).map { (index: Int) -> Int in
        let stride = Double(original) / Double(steps)
        let place = Int((Double(index) * stride).rounded(.down))
        return (original - place) * skip - 1
    }
}

/// A level of a fractional timestep: linear between its neighbours.
func level(_ table: [Float], at timestep: Double) -> Float {
    let below = Int(timestep)
    if below >= table.count - 1 { return table[table.count - 1] }
    let rise = Double(table[below + 1]) - Double(table[below])
    return Float(rise * (timestep - Double(below)) + Double(table[below]))
}

/// What a U-Net distilled with its guidance is told, `timestep_cond`: sines and cosines of
/// 1000 (scale - 1) at falling frequencies (Meng et al., "On Distillation of Guided Diffusion
/// Models", arXiv 2210.03142, section 3.1; frequencies as in diffusers).
func guidanceCondition(_ scale: Double, width: Int) -> [Float] {
    let half = width / 2
    let rate = Float(-log(1e4) / Double(half - 1))
    var values = [Float](repeating: 0, count: width)
    for index in 0..<half {
        let frequency = Float(exp(Double(Float(index) * rate)))
        let angle = Double(Float((scale - 1) * 1000) * frequency)
        values[index] = Float(sin(angle))
        values[half + index] = Float(cos(angle))
    }
    return values
}

/// `steps` values from 0 to `last`, in falling order.
private func linspace(_ last: Double, _ steps: Int) -> [Double] {
    if steps == 1 { return [0] }
    let step = last / Double(steps - 1)
    return (0..<steps).map { (index: Int) -> Double in
        index == 0 ? last : Double(steps - 1 - index) * step
    }
}

private func rounded(_ value: Double) -> Double {
    value.rounded(.toNearestOrEven)
}

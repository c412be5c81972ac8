import Foundation

/// The noise of `torch.randn` on a CPU: a seed starts the same picture as in Python.
///
/// 16 values or more come in blocks of 16 from uniforms of 24 bits, the first eight of a block
/// paired with the last eight (Box and Muller, 1958, "A Note on the Generation of Random Normal
/// Deviates"). A size that is no multiple of 16 has its last 16 values drawn anew. Fewer than 16
/// come in double precision, two for each pair of uniforms, one of them kept for the next call.
///
/// torch's vectorised kernel approximates logarithm, sine and cosine: 5e-7 lie between its values
/// and these.
public struct TorchRandom {
    private static let block = 16
    private static let half = 8
    private var twister: MersenneTwister
    private var spare: Double?

    /// Its low 32 bits decide, as in torch.
    public init(seed: UInt64) {
        twister = MersenneTwister(seed: UInt32(truncatingIfNeeded: seed))
    }

    /// Standard normal values.
    public mutating func normal(_ size: Int) -> [Float] {
        if size < Self.block { return (0..<size).map { _ in Float(one()) } }
        var values = (0..<size).map { _ in twister.uniform() }
        let whole = size - size % Self.block
        for start in stride(from: 0, to: whole, by: Self.block) { boxMuller(&values, start) }
        if whole < size {
            let start = size - Self.block
            for index in start..<size { values[index] = twister.uniform() }
            boxMuller(&values, start)
        }
        return values
    }

    /// Uniforms of a block become normals, rounded to single precision where torch rounds.
    private func boxMuller(_ values: inout [Float], _ start: Int) {
        for index in start..<(start + Self.half) {
            let angle = Double(Float(2 * Double.pi) * values[index + Self.half])
            let logarithm = Float(log(Double(1 - values[index])))
            let radius = (-2 * logarithm).squareRoot()
            values[index] = radius * Float(cos(angle))
            values[index + Self.half] = radius * Float(sin(angle))
        }
    }

    private mutating func one() -> Double {
        if let kept = spare {
            spare = nil
            return kept
        }
        let angle = 2 * Double.pi * twister.double()
        let radius = (-2 * log1p(-twister.double())).squareRoot()
        spare = radius * sin(angle)
        return radius * cos(angle)
    }
}

/// Matsumoto and Nishimura, "Mersenne Twister" (1998), MT19937 as the authors seed it.
private struct MersenneTwister {
    private static let size = 624
    private static let shift = 397
    private var state: [UInt32]
    private var at = MersenneTwister.size

    init(seed: UInt32) {
        state = [seed]
        for index in 1..<Self.size {
            let last = state[index - 1]
            state.append(1_812_433_253 &* (last ^ (last >> 30)) &+ UInt32(index))
        }
    }

    /// 24 bits of a word, in [0, 1).
    mutating func uniform() -> Float {
        Float(word() & 0xFF_FFFF) * (1 / Float(1 << 24))
    }

    /// 53 bits of two words, in [0, 1).
    mutating func double() -> Double {
        let high = UInt64(word()) << 32
        let bits = (high | UInt64(word())) & ((1 << 53) - 1)
        return Double(bits) * (1 / Double(UInt64(1) << 53))
    }

    private mutating func word() -> UInt32 {
        if at == Self.size { renew() }
        var word = state[at]
        at += 1
        word ^= word >> 11
        word ^= (word << 7) & 0x9D2C_5680
        word ^= (word << 15) & 0xEFC6_0000
        return word ^ (word >> 18)
    }

    private mutating func renew() {
        for index in 0..<Self.size {
            let next = state[(index + 1) % Self.size]
            let mixed = (state[index] & 0x8000_0000) | (next & 0x7FFF_FFFF)
            let odd: UInt32 = mixed & 1 == 1 ? 0x9908_B0DF : 0
            state[index] = state[(index + Self.shift) % Self.size] ^ (mixed >> 1) ^ odd
        }
        at = 0
    }
}

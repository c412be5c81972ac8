import Foundation

#if canImport(CryptoKit)
import CryptoKit

func sha256Hex(_ data: Data) -> String {
    hex(SHA256.hash(data: data))
}
#else
/// FIPS 180-4, section 6.2, where there is no CryptoKit.
func sha256Hex(_ data: Data) -> String {
    var hash: [UInt32] = [
        0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a,
        0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19,
    ]
    var padded = [UInt8](data)
    padded.append(0x80)
    padded += [UInt8](repeating: 0, count: (120 - padded.count % 64) % 64)
    for shift in stride(from: 56, through: 0, by: -8) {
        padded.append(UInt8(truncatingIfNeeded: (data.count &* 8) >> shift))
    }
    var words = [UInt32](repeating: 0, count: 64)
    for start in stride(from: 0, to: padded.count, by: 64) {
        for index in 0..<16 {
            let at = start + 4 * index
            words[index] = padded[at..<(at + 4)].reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
        }
        compress(&hash, &words)
    }
    return hex(hash.flatMap { withUnsafeBytes(of: $0.bigEndian, Array.init) })
}

private func compress(_ hash: inout [UInt32], _ words: inout [UInt32]) {
    func turned(_ word: UInt32, _ bits: UInt32) -> UInt32 { (word >> bits) | (word << (32 - bits)) }
    for index in 16..<64 {
        let (early, late) = (words[index - 15], words[index - 2])
        let first: UInt32 = turned(early, 7) ^ turned(early, 18) ^ (early >> 3)
        let second: UInt32 = turned(late, 17) ^ turned(late, 19) ^ (late >> 10)
        words[index] = words[index - 16] &+ first &+ words[index - 7] &+ second
    }
    var state = hash
    for index in 0..<64 {
        let (a, b, c, e) = (state[0], state[1], state[2], state[4])
        let first = state[7] &+ (turned(e, 6) ^ turned(e, 11) ^ turned(e, 25))
        let chosen: UInt32 = (e & state[5]) ^ (~e & state[6])
        let sum = first &+ chosen &+ constants[index] &+ words[index]
        let most: UInt32 = (a & b) ^ (a & c) ^ (b & c)
        let rest = (turned(a, 2) ^ turned(a, 13) ^ turned(a, 22)) &+ most
        state = [sum &+ rest, a, b, c, state[3] &+ sum, e, state[5], state[6]]
    }
    for index in hash.indices { hash[index] = hash[index] &+ state[index] }
}

/// Fractions of the cube roots of the first 64 primes.
private let constants: [UInt32] = {
    var primes: [Int] = []
    var candidate = 2
    while primes.count < 64 {
        if primes.allSatisfy({ candidate % $0 != 0 }) { primes.append(candidate) }
        candidate += 1
    }
    return primes.map { prime in
        let root = cbrt(Double(prime))
        return UInt32((root - root.rounded(.down)) * 4_294_967_296)
    }
}()
#endif

private func hex(_ bytes: some Sequence<UInt8>) -> String {
    bytes.map { String(format: "%02x", $0) }.joined()
}

import Foundation

/// Token ids of a prompt, and how many of its tokens did not fit.
public struct Tokens {
    public let ids: [Int]
    public let cut: Int
}

/// Prompts to token ids, as `transformers.CLIPTokenizer` makes them (without ftfy): byte-pair
/// encoding of the words of `cleanText`; start and end token always there, also in a cut prompt.
public final class Tokenizer {
    private struct Pair: Hashable {
        let first: String
        let second: String
    }

    private static let maxMerges = 49152 - 256 - 2  // CLIP's own, but bytes and special tokens
    private static let start = "<|startoftext|>"
    private static let end = "<|endoftext|>"
    private static let suffixes = [start, end, "'s", "'t", "'re", "'ve", "'m", "'ll", "'d"]
        .map { Array($0.unicodeScalars) }
    private static let letters = byteLetters()

    /// Ids of a prompt.
    public let length: Int
    private let vocabulary: [String: Int]
    private let ranks: [Pair: Int]
    private let added: [(token: [Unicode.Scalar], id: Int)]  // longest first
    private let bos: Int
    private let eos: Int
    private let pad: Int
    private let unknown: Int
    private var cache: [String: [Int]] = [:]

    /// Opens `vocab.json`, `merges.txt` and `tokenizer_config.json` of a folder.
    public init(folder: URL) throws {
        let config = try readJSON(
            Config.self, folder.appendingPathComponent("tokenizer_config.json"))
        let vocabulary = try readJSON([String: Int].self, folder.appendingPathComponent("vocab.json"))
        var found: [String: Int] = [:]
        for token in config.roles { found[token] = vocabulary[token] }
        for (index, token) in config.addedTokens ?? [:] {
            guard let id = Int(index), !token.text.isEmpty else {
                throw BundleError("an added token must have a number and a text: \(index)")
            }
            found[token.text] = id
        }
        let ids = try config.roles.map { token in
            guard let id = found[token] else {
                throw BundleError("the tokenizer's special tokens must be in its vocabulary: \(token)")
            }
            return id
        }
        (bos, eos, pad, unknown) = (ids[0], ids[1], ids[2], ids[3])
        length = config.length
        try require(length >= 3, "`model_max_length` must be at least 3: \(length)")
        added = found.map { (Array($0.key.unicodeScalars), $0.value) }
            .sorted { ($1.token.count, $0.id) < ($0.token.count, $1.id) }
        ranks = try Self.merges(folder, vocabulary)
        self.vocabulary = vocabulary
    }

    private static func merges(_ folder: URL, _ vocabulary: [String: Int]) throws -> [Pair: Int] {
        guard let data = try? Data(contentsOf: folder.appendingPathComponent("merges.txt")) else {
            throw BundleError("the tokenizer must have its merges.txt")
        }
        let text = String(decoding: data, as: UTF8.self)
        let lines = text.trimmingCharacters(in: .whitespacesAndNewlines)
            .split(whereSeparator: \.isNewline).dropFirst().prefix(maxMerges)
        var ranks: [Pair: Int] = [:]
        for (rank, line) in lines.enumerated() {
            let parts = line.split(separator: " ").map(String.init)
            guard parts.count == 2, vocabulary[parts[0] + parts[1]] != nil else {
                throw BundleError("merges.txt must hold pairs of tokens of vocab.json: \(line)")
            }
            ranks[Pair(first: parts[0], second: parts[1])] = rank
        }
        return ranks
    }

    /// Ids of `length`: start, as many tokens as fit, end, padding.
    public func encode(_ prompt: String) -> Tokens {
        var found: [Int] = []
        var plain = String.UnicodeScalarView()
        let scalars = Array(prompt.unicodeScalars)
        var at = 0
        // Added tokens are found in the text as it is, before any clean-up.
        while at < scalars.count {
            if let match = added.first(where: { scalars[at...].starts(with: $0.token) }) {
                encodePlain(String(plain), &found)
                plain.removeAll()
                found.append(match.id)
                at += match.token.count
            } else {
                plain.append(scalars[at])
                at += 1
            }
        }
        encodePlain(String(plain), &found)
        let kept = found.prefix(length - 2)
        var ids = [bos] + kept + [eos]
        ids += Array(repeating: pad, count: length - ids.count)
        return Tokens(ids: ids, cut: found.count - kept.count)
    }

    private func encodePlain(_ text: String, _ found: inout [Int]) {
        for word in words(Array(cleanText(text).unicodeScalars)) {
            if word == Self.start || word == Self.end {
                found.append(vocabulary[word] ?? unknown)
            } else if let known = cache[word] {
                found += known
            } else {
                let ids = bytePairs(word)
                cache[word] = ids
                found += ids
            }
        }
    }

    /// Special tokens, English endings, runs of letters, single digits, runs of anything else.
    private func words(_ text: [Unicode.Scalar]) -> [String] {
        var found: [String] = []
        var at = 0
        while at < text.count {
            let begin = at
            if let suffix = Self.suffixes.first(where: { starts(text[at...], $0) }) {
                at += suffix.count
            } else if text[at] == " " {
                at += 1
                continue
            } else if isNumber(text[at]) {
                at += 1
            } else if isLetter(text[at]) {
                while at < text.count, isLetter(text[at]) { at += 1 }
            } else {
                while at < text.count, text[at] != " ", !isLetter(text[at]), !isNumber(text[at]) {
                    at += 1
                }
            }
            var word = String.UnicodeScalarView()
            word.append(contentsOf: text[begin..<at])
            found.append(String(word))
        }
        return found
    }

    /// A long s counts as an s where case is ignored.
    private func starts(_ text: ArraySlice<Unicode.Scalar>, _ suffix: [Unicode.Scalar]) -> Bool {
        guard text.count >= suffix.count else { return false }
        let longS: Unicode.Scalar = "\u{17F}"
        for (scalar, wanted) in zip(text, suffix) where scalar != wanted {
            if scalar != longS || wanted != "s" { return false }
        }
        return true
    }

    private func isLetter(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.properties.generalCategory {
        case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter:
            return true
        default:
            return false
        }
    }

    private func isNumber(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.properties.generalCategory {
        case .decimalNumber, .letterNumber, .otherNumber: return true
        default: return false
        }
    }

    /// Sennrich et al., "Neural Machine Translation of Rare Words" (arXiv 1508.07909), on bytes.
    private func bytePairs(_ word: String) -> [Int] {
        var parts = word.utf8.map { Self.letters[Int($0)] }
        parts[parts.count - 1] += "</w>"
        while parts.count > 1 {
            let pairs = zip(parts, parts.dropFirst()).map { Pair(first: $0, second: $1) }
            let ranked = pairs.compactMap { pair in ranks[pair].map { (rank: $0, pair: pair) } }
            guard let best = ranked.min(by: { $0.rank < $1.rank })?.pair else { break }
            var merged: [String] = []
            for part in parts {
                if merged.last == best.first, part == best.second {
                    merged[merged.count - 1] = best.first + best.second
                } else {
                    merged.append(part)
                }
            }
            parts = merged
        }
        return parts.map { vocabulary[$0] ?? unknown }
    }
}

/// `tokenizer_config.json`, as far as it is read.
private struct Config: Decodable {
    /// A token is written as text, or as an object with its text in `content`.
    struct Token: Decodable {
        let text: String

        init(from decoder: Decoder) throws {
            if let plain = try? decoder.singleValueContainer().decode(String.self) {
                text = plain
            } else {
                text = try decoder.container(keyedBy: Keys.self).decode(String.self, forKey: .content)
            }
        }

        enum Keys: String, CodingKey { case content }
    }

    let length: Int
    let bos, eos, pad, unknown: Token?
    let addedTokens: [String: Token]?

    /// Start, end, padding, unknown.
    var roles: [String] {
        [bos?.text ?? "<|startoftext|>"] + [eos, pad, unknown].map { $0?.text ?? "<|endoftext|>" }
    }

    enum CodingKeys: String, CodingKey {
        case length = "model_max_length"
        case bos = "bos_token"
        case eos = "eos_token"
        case pad = "pad_token"
        case unknown = "unk_token"
        case addedTokens = "added_tokens_decoder"
    }
}

/// The visible letter that stands for each byte in `vocab.json`, as GPT-2's tokenizer has it.
private func byteLetters() -> [String] {
    var next: UInt32 = 0x100
    return (UInt32(0)...0xFF).map { byte in
        let isVisible =
            (0x21...0x7E).contains(byte) || (0xA1...0xAC).contains(byte) || (0xAE...0xFF).contains(byte)
        let code = isVisible ? byte : next
        if !isVisible { next += 1 }
        return String(Unicode.Scalar(code)!)
    }
}

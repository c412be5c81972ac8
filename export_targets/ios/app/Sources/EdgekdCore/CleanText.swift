import Foundation

/// What `transformers.CLIPTokenizer` does to a prompt before it splits it: no control characters,
/// Chinese characters apart, composed (NFC), lower case, single spaces.
func cleanText(_ text: String) -> String {
    var kept = String.UnicodeScalarView()
    for scalar in text.unicodeScalars {
        if isBlank(scalar) {
            kept.append(" ")
        } else if isChinese(scalar) {
            kept.append(contentsOf: [" ", scalar, " "])
        } else if !isDropped(scalar) {
            kept.append(scalar)
        }
    }
    let composed = String(kept).precomposedStringWithCanonicalMapping
    return composed.unicodeScalars
        .split { $0 == " " || $0 == "\u{2028}" || $0 == "\u{2029}" }
        .map { lowerCase(Array($0)) }
        .joined(separator: " ")
}

private func isBlank(_ scalar: Unicode.Scalar) -> Bool {
    scalar == "\t" || scalar == "\n" || scalar == "\r"
        || scalar.properties.generalCategory == .spaceSeparator
}

/// Unicode's categories C: control, format, private, surrogate and unassigned characters.
private func isDropped(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar.properties.generalCategory {
    case .control, .format, .privateUse, .surrogate: return true
    // Emoji that are newer than the system; Unicode keeps these blocks for them.
    case .unassigned: return !(0x1F300...0x1FAFF).contains(scalar.value)
    default: return scalar == "\u{FFFD}"
    }
}

private let chinese: [ClosedRange<UInt32>] = [
    0x4E00...0x9FFF, 0x3400...0x4DBF, 0x20000...0x2A6DF, 0x2A700...0x2B73F, 0x2B740...0x2B81F,
    0x2B820...0x2CEAF, 0xF900...0xFAFF, 0x2F800...0x2FA1F,
]

private func isChinese(_ scalar: Unicode.Scalar) -> Bool {
    scalar.value >= 0x3400 && chinese.contains { $0.contains(scalar.value) }
}

/// A word's lower case by Unicode's own rules, whatever the device's language is.
private func lowerCase(_ word: [Unicode.Scalar]) -> String {
    var lower = ""
    for (index, scalar) in word.enumerated() {
        if scalar == "\u{3A3}" {
            lower += isLastSigma(word, index) ? "\u{3C2}" : "\u{3C3}"
        } else {
            lower += scalar.properties.lowercaseMapping
        }
    }
    return lower
}

/// Unicode's Final_Sigma: a letter with a case before it, and none after it.
private func isLastSigma(_ word: [Unicode.Scalar], _ index: Int) -> Bool {
    let before = word[..<index].last { !$0.properties.isCaseIgnorable }
    let after = word[(index + 1)...].first { !$0.properties.isCaseIgnorable }
    return (before?.properties.isCased ?? false) && !(after?.properties.isCased ?? false)
}

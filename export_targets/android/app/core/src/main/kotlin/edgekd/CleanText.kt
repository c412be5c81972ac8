package edgekd

import java.text.Normalizer

/**
 * What `transformers.CLIPTokenizer` does to a prompt before it splits it: no control characters,
 * Chinese characters apart, composed (NFC), lower case, single spaces.
 */
fun cleanText(text: String): String {
    val kept = StringBuilder()
    text.codePoints().forEach { code ->
        when {
            isBlank(code) -> kept.append(' ')
            isDropped(code) -> {}
            isChinese(code) -> kept.append(' ').appendCodePoint(code).append(' ')
            else -> kept.appendCodePoint(code)
        }
    }
    val composed = Normalizer.normalize(kept, Normalizer.Form.NFC)
    return composed.split(' ', '\u2028', '\u2029').filter { it.isNotEmpty() }
        .joinToString(" ") { lowerCase(it) }
}

private fun isBlank(code: Int): Boolean =
    code == 9 || code == 10 || code == 13 ||
        Character.getType(code) == Character.SPACE_SEPARATOR.toInt()

/** Unicode's categories C: control, format, private, surrogate and unassigned characters. */
private fun isDropped(code: Int): Boolean =
    code == 0xFFFD ||
        when (Character.getType(code).toByte()) {
            Character.CONTROL, Character.FORMAT, Character.PRIVATE_USE, Character.SURROGATE -> true
            // Emoji that are newer than the device; Unicode keeps these blocks for them.
            Character.UNASSIGNED -> code !in 0x1F300..0x1FAFF
            else -> false
        }

private fun isChinese(code: Int): Boolean =
    code in 0x4E00..0x9FFF || code in 0x3400..0x4DBF || code in 0x20000..0x2A6DF ||
        code in 0x2A700..0x2B73F || code in 0x2B740..0x2B81F || code in 0x2B820..0x2CEAF ||
        code in 0xF900..0xFAFF || code in 0x2F800..0x2FA1F

private const val SIGMA = 0x3A3

/** A word's lower case by Unicode's own rules, whatever the device's language is. */
private fun lowerCase(word: String): String {
    val codes = word.codePoints().toArray()
    val lower = StringBuilder()
    codes.forEachIndexed { index, code ->
        when (code) {
            SIGMA -> lower.append(if (isLastSigma(codes, index)) 'ς' else 'σ')
            0x130 -> lower.append("i\u0307") // a capital I with a dot keeps its dot
            else -> lower.appendCodePoint(Character.toLowerCase(code))
        }
    }
    return lower.toString()
}

/** Unicode's Final_Sigma: a letter with a case before it, and none after it. */
private fun isLastSigma(codes: IntArray, index: Int): Boolean {
    val before = (index - 1 downTo 0).firstOrNull { !isCaseIgnorable(codes[it]) }
    val after = (index + 1 until codes.size).firstOrNull { !isCaseIgnorable(codes[it]) }
    return before != null && isCased(codes[before]) && (after == null || !isCased(codes[after]))
}

private fun isCased(code: Int): Boolean =
    Character.isUpperCase(code) || Character.isLowerCase(code) || Character.isTitleCase(code)

private const val INSIDE_WORDS = "'.:\u00B7\u0387\u055F\u05F4\u2018\u2019\u2024\u2027\uFE13\uFE52\uFE55\uFF07\uFF0E\uFF1A"

private fun isCaseIgnorable(code: Int): Boolean =
    when (Character.getType(code).toByte()) {
        Character.NON_SPACING_MARK, Character.ENCLOSING_MARK, Character.FORMAT,
        Character.MODIFIER_LETTER, Character.MODIFIER_SYMBOL -> true
        else -> code < 0x10000 && code.toChar() in INSIDE_WORDS
    }

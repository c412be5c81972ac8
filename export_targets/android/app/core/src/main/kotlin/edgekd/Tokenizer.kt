package edgekd

import java.io.File

/** Token ids of a prompt, and how many of its tokens did not fit. */
class Tokens(val ids: IntArray, val cut: Int)

/**
 * Prompts to token ids, as `transformers.CLIPTokenizer` makes them (without ftfy): byte-pair
 * encoding of the words of [cleanText]; start and end token always there, also in a cut prompt.
 */
class Tokenizer private constructor(
    private val vocabulary: Map<String, Int>,
    private val ranks: Map<Pair<String, String>, Int>,
    private val added: Map<String, Int>,
    private val roles: Map<String, Int>,
    val length: Int,
) {
    companion object {
        private const val MAX_MERGES = 49152 - 256 - 2 // CLIP's own, but bytes and special tokens
        private val ROLES = listOf("bos_token", "eos_token", "pad_token", "unk_token")
        private const val START = "<|startoftext|>"
        private const val END = "<|endoftext|>"
        private val SUFFIXES = listOf(START, END, "'s", "'t", "'re", "'ve", "'m", "'ll", "'d")

        /** Opens `vocab.json`, `merges.txt` and `tokenizer_config.json` of a folder. */
        fun open(folder: File): Tokenizer {
            val config = Fields.parse("tokenizer_config.json", read(folder, "tokenizer_config.json"))
            val table = Fields.parse("vocab.json", read(folder, "vocab.json"))
            val vocabulary = table.values.keys.associateWith { table.integer(it) }
            val added = addedTokens(config)
            val roles = ROLES.associateWith { role ->
                val token = content(config.values[role]) ?: if (role == "bos_token") START else END
                val id = added[token] ?: vocabulary[token]
                id ?: throw BundleError("the tokenizer's `$role` must be in its vocabulary: $token")
            }
            val special = ROLES.mapNotNull { content(config.values[it]) }
                .filter { it in vocabulary }.associateWith { vocabulary.getValue(it) }
            val length = config.integer("model_max_length")
            if (length < 3) throw BundleError("`model_max_length` must be at least 3: $length")
            return Tokenizer(vocabulary, merges(folder, vocabulary), special + added, roles, length)
        }

        private fun read(folder: File, name: String): String = File(folder, name).readText()

        /** A token is written as text, or as an object with its text in `content`. */
        private fun content(token: Any?): String? =
            (if (token is Map<*, *>) token["content"] else token) as? String

        private fun addedTokens(config: Fields): Map<String, Int> {
            if (!config.has("added_tokens_decoder")) return emptyMap()
            return config.inner("added_tokens_decoder").values.entries.associate { (index, token) ->
                val name = content(token)
                val id = index.toIntOrNull()
                if (name.isNullOrEmpty() || id == null) {
                    throw BundleError("an added token must have a number and a text: $index")
                }
                name to id
            }
        }

        private fun merges(
            folder: File,
            vocabulary: Map<String, Int>,
        ): Map<Pair<String, String>, Int> {
            val ranks = HashMap<Pair<String, String>, Int>()
            val lines = read(folder, "merges.txt").trim().split("\n").drop(1).take(MAX_MERGES)
            lines.forEachIndexed { rank, line ->
                val pair = line.trim().split(" ")
                if (pair.size != 2 || (pair[0] + pair[1]) !in vocabulary) {
                    throw BundleError("`merges.txt` must hold pairs of tokens of `vocab.json`: $line")
                }
                ranks[pair[0] to pair[1]] = rank
            }
            return ranks
        }
    }

    private val longestFirst = added.keys.sortedByDescending { it.length }
    private val letters = byteLetters()
    private val cache = HashMap<String, List<Int>>()

    /** Largest id that can come out. */
    val largestId: Int = maxOf(vocabulary.values.maxOrNull() ?: 0, added.values.maxOrNull() ?: 0)

    /** Ids [length]: start, as many tokens as fit, end, padding. */
    fun encode(prompt: String): Tokens {
        val found = ArrayList<Int>()
        var plain = 0
        var at = 0
        // Added tokens are found in the text as it is, before any clean-up.
        while (at < prompt.length) {
            val token = longestFirst.firstOrNull { prompt.startsWith(it, at) }
            if (token == null) {
                at++
                continue
            }
            encodePlain(prompt.substring(plain, at), found)
            found.add(added.getValue(token))
            at += token.length
            plain = at
        }
        encodePlain(prompt.substring(plain), found)
        val kept = minOf(found.size, length - 2)
        val ids = IntArray(length) { roles.getValue("pad_token") }
        ids[0] = roles.getValue("bos_token")
        for (index in 0 until kept) ids[index + 1] = found[index]
        ids[kept + 1] = roles.getValue("eos_token")
        return Tokens(ids, found.size - kept)
    }

    private fun encodePlain(text: String, found: MutableList<Int>) {
        for (word in words(cleanText(text))) {
            if (word == START || word == END) {
                found.add(vocabulary[word] ?: roles.getValue("unk_token"))
            } else {
                found.addAll(cache.getOrPut(word) { bytePairs(word) })
            }
        }
    }

    /** Special tokens, English endings, runs of letters, single digits, runs of anything else. */
    private fun words(text: String): List<String> {
        val found = ArrayList<String>()
        var at = 0
        while (at < text.length) {
            val start = at
            val suffix = SUFFIXES.firstOrNull { startsWith(text, at, it) }
            val first = text.codePointAt(at)
            when {
                suffix != null -> at += suffix.length
                first == ' '.code -> { at++; continue }
                isNumber(first) -> at += Character.charCount(first)
                Character.isLetter(first) -> at = runEnd(text, at) { Character.isLetter(it) }
                else -> at = runEnd(text, at) {
                    it != ' '.code && !Character.isLetter(it) && !isNumber(it)
                }
            }
            found.add(text.substring(start, at))
        }
        return found
    }

    /** A long s counts as an s where case is ignored. */
    private fun startsWith(text: String, at: Int, suffix: String): Boolean =
        at + suffix.length <= text.length && suffix.indices.all {
            text[at + it] == suffix[it] || (suffix[it] == 's' && text[at + it] == 'ſ')
        }

    private fun runEnd(text: String, start: Int, belongs: (Int) -> Boolean): Int {
        var at = start
        while (at < text.length) {
            val code = text.codePointAt(at)
            if (!belongs(code)) break
            at += Character.charCount(code)
        }
        return at
    }

    private fun isNumber(code: Int): Boolean =
        when (Character.getType(code).toByte()) {
            Character.DECIMAL_DIGIT_NUMBER, Character.LETTER_NUMBER, Character.OTHER_NUMBER -> true
            else -> false
        }

    /** Sennrich et al., "Neural Machine Translation of Rare Words" (arXiv 1508.07909), on bytes. */
    private fun bytePairs(word: String): List<Int> {
        val parts = word.toByteArray().map { letters[it.toInt() and 0xFF] }.toMutableList()
        parts[parts.size - 1] += "</w>"
        // Unknown bytes stay apart, as one unknown token each.
        while (parts.size > 1) {
            val best = parts.indices.drop(1)
                .minByOrNull { ranks[parts[it - 1] to parts[it]] ?: Int.MAX_VALUE } ?: break
            val pair = parts[best - 1] to parts[best]
            if (pair !in ranks) break
            val merged = ArrayList<String>(parts.size)
            for (part in parts) {
                if (merged.isNotEmpty() && merged.last() == pair.first && part == pair.second) {
                    merged[merged.size - 1] = pair.first + pair.second
                } else {
                    merged.add(part)
                }
            }
            parts.clear()
            parts.addAll(merged)
        }
        return parts.map { vocabulary[it] ?: roles.getValue("unk_token") }
    }
}

/** The visible letter that stands for each byte in `vocab.json`, as GPT-2's tokenizer has it. */
private fun byteLetters(): List<String> {
    val visible = (0x21..0x7E) + (0xA1..0xAC) + (0xAE..0xFF)
    var next = 0x100
    return (0..0xFF).map { byte -> (if (byte in visible) byte else next++).toChar().toString() }
}

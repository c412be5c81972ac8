package edgekd

/** A bundle that cannot be drawn with, or a request that it does not take; the message says why. */
class BundleError(message: String) : Exception(message)

/** JSON without a library: Android's own reader is not there on a plain JVM. */
object Json {
    private const val MAX_DEPTH = 64

    /** Objects as maps, lists, texts, numbers as Double, truths, null. */
    fun parse(text: String): Any? {
        val reader = Reader(text)
        val value = reader.value(0)
        reader.space()
        if (reader.at < text.length) reader.fail("nothing after the value")
        return value
    }

    private class Reader(private val text: String) {
        var at = 0

        fun fail(wanted: String): Nothing =
            throw BundleError("JSON must have $wanted at character $at")

        fun space() {
            while (at < text.length && text[at] in " \t\r\n") at++
        }

        fun value(depth: Int): Any? {
            if (depth > MAX_DEPTH) fail("at most $MAX_DEPTH levels")
            space()
            return when (text.getOrNull(at)) {
                '{' -> obj(depth)
                '[' -> list(depth)
                '"' -> string()
                't' -> word("true", true)
                'f' -> word("false", false)
                'n' -> word("null", null)
                else -> number()
            }
        }

        private fun obj(depth: Int): Map<String, Any?> {
            val found = LinkedHashMap<String, Any?>()
            entries('}') {
                if (text.getOrNull(at) != '"') fail("a name")
                val name = string()
                space()
                expect(':')
                found[name] = value(depth + 1)
            }
            return found
        }

        private fun list(depth: Int): List<Any?> {
            val found = ArrayList<Any?>()
            entries(']') { found.add(value(depth + 1)) }
            return found
        }

        private fun entries(end: Char, entry: () -> Unit) {
            at++
            space()
            if (text.getOrNull(at) == end) {
                at++
                return
            }
            while (true) {
                space()
                entry()
                space()
                if (text.getOrNull(at) == end) break
                expect(',')
            }
            at++
        }

        private fun expect(char: Char) {
            if (text.getOrNull(at) != char) fail("`$char`")
            at++
        }

        private fun word(name: String, value: Any?): Any? {
            if (!text.startsWith(name, at)) fail("a value")
            at += name.length
            return value
        }

        private fun number(): Double {
            val start = at
            while (at < text.length && text[at] in "+-.0123456789eE") at++
            return text.substring(start, at).toDoubleOrNull() ?: fail("a value")
        }

        private fun string(): String {
            at++
            val found = StringBuilder()
            while (true) {
                val char = text.getOrNull(at++) ?: fail("the end of a text")
                when {
                    char == '"' -> return found.toString()
                    char == '\\' -> found.append(escaped())
                    char < ' ' -> fail("no control character in a text")
                    else -> found.append(char)
                }
            }
        }

        private fun escaped(): Char =
            when (val char = text.getOrNull(at++)) {
                '"', '\\', '/' -> char
                'b' -> '\b'
                'f' -> '\u000c'
                'n' -> '\n'
                'r' -> '\r'
                't' -> '\t'
                'u' -> unit()
                else -> fail("an escape")
            }

        private fun unit(): Char {
            val digits = text.substring(at, minOf(at + 4, text.length))
            if (digits.length < 4 || digits.any { it.digitToIntOrNull(16) == null }) fail("four digits")
            at += 4
            return digits.toInt(16).toChar()
        }
    }
}

/** An object of a JSON file, whose values are read by type. */
class Fields(private val where: String, val values: Map<String, Any?>) {
    companion object {
        fun parse(where: String, text: String): Fields {
            val value = Json.parse(text)
            if (value !is Map<*, *>) throw BundleError("`$where` must hold an object")
            @Suppress("UNCHECKED_CAST") // the reader's names are texts
            return Fields(where, value as Map<String, Any?>)
        }
    }

    fun has(name: String): Boolean = values[name] != null

    fun text(name: String, default: String? = null): String = read(name, "a text", default)

    /** One of some texts. */
    fun choice(name: String, default: String, vararg known: String): String {
        val value = text(name, default)
        return if (value in known) value else fail(name, "one of ${known.joinToString()}")
    }

    fun truth(name: String, default: Boolean? = null): Boolean =
        read(name, "true or false", default)

    fun number(name: String, default: Double? = null): Double = read(name, "a number", default)

    fun integer(name: String, default: Int? = null): Int {
        val value = number(name, default?.toDouble())
        if (value != Math.rint(value) || value < -MAX || value > MAX) fail(name, "an integer")
        return value.toInt()
    }

    fun inner(name: String): Fields {
        val value: Map<String, Any?> = read(name, "an object", null)
        return Fields("$where, $name", value)
    }

    private inline fun <reified T> read(name: String, kind: String, default: T?): T {
        val value = if (name in values) values[name] else default
        return value as? T ?: fail(name, kind)
    }

    private fun fail(name: String, kind: String): Nothing =
        throw BundleError("`$name` of `$where` must be $kind, but got ${values[name]}")

    private val MAX = 2e9
}

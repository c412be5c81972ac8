package edgekd

import java.io.File
import java.security.MessageDigest

/** `model.json` of a bundle: how to draw, and size and hash of every file beside it. */
class Model private constructor(val folder: File, facts: Fields) {
    val name = facts.text("name")
    val source = facts.text("source")
    val steps: Int
    val guidanceScale: Double
    val height: Int
    val width: Int
    val multiple: Int
    val isDynamic: Boolean
    val channels: Int
    val scale: Int
    val factor: Float
    val guidanceWidth: Int?
    val scheduler: SchedulerConfig

    init {
        require(facts.integer("format") == FORMAT) { "`model.json` must be of format $FORMAT" }
        require(!facts.truth("is_sdxl")) { "the app does not draw with pipelines of the XL kind" }
        val generation = facts.inner("generation")
        steps = generation.integer("steps")
        guidanceScale = generation.number("guidance_scale")
        height = generation.integer("height")
        width = generation.integer("width")
        val sides = facts.inner("sides")
        multiple = sides.integer("multiple")
        isDynamic = sides.truth("dynamic")
        val latents = facts.inner("latents")
        channels = latents.integer("channels")
        scale = latents.integer("scale")
        factor = latents.number("factor").toFloat()
        require(channels in 1..64 && scale in 1..256 && multiple >= 1 && factor > 0) {
            "`model.json` must tell usable sizes"
        }
        guidanceWidth = if (facts.has("guidance_width")) facts.integer("guidance_width") else null
        scheduler = SchedulerConfig(facts.inner("scheduler"))
    }

    companion object {
        private const val FORMAT = 1
        const val FILE = "model.json"

        /** Opens a folder; every file is held against its hash first. */
        fun open(folder: File): Model {
            val path = File(folder, FILE)
            if (!path.isFile) throw BundleError("`$folder` must hold $FILE")
            val facts = Fields.parse(FILE, path.readText())
            for (file in listFiles(facts)) file.check(folder)
            return Model(folder, facts)
        }

        /** The files that a `model.json` lists. */
        fun listFiles(facts: Fields): List<ListedFile> {
            val files = facts.inner("files")
            return files.values.keys.map { name ->
                val row = files.inner(name)
                if (name.split('/').any { it in listOf("", ".", "..") } || '\\' in name) {
                    throw BundleError("`files` of $FILE must lie beside it, but got $name")
                }
                ListedFile(name, row.number("bytes").toLong(), row.text("sha256"))
            }
        }
    }
}

/** One file of a model, and what it must be. */
class ListedFile(val name: String, private val bytes: Long, private val sha256: String) {
    /** Whether the file is there, whole and unchanged; throws what is wrong. */
    fun check(folder: File) {
        val file = File(folder, name)
        if (!file.isFile) fail("is missing")
        if (file.length() != bytes) fail("has ${file.length()} bytes instead of $bytes")
        val digest = MessageDigest.getInstance("SHA-256")
        file.inputStream().use { stream ->
            val buffer = ByteArray(1 shl 16)
            while (true) {
                val count = stream.read(buffer)
                if (count < 0) break
                digest.update(buffer, 0, count)
            }
        }
        val found = digest.digest().joinToString("") { "%02x".format(it) }
        if (found != sha256) fail("is damaged")
    }

    private fun fail(what: String): Nothing =
        throw BundleError("the model must be whole, but $name $what: unpack or copy it again")
}

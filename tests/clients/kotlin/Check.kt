import edgekd.BundleError
import edgekd.Json
import edgekd.Model
import edgekd.OnnxRunner
import edgekd.Pipeline
import edgekd.Request
import edgekd.SchedulerConfig
import edgekd.Fields
import edgekd.Tokenizer
import edgekd.TorchRandom
import edgekd.cleanText
import edgekd.makeSampler
import java.io.File
import kotlin.math.cos
import kotlin.math.tanh
import kotlin.system.exitProcess

/**
 * What tests ask of the Android app's Kotlin, one answer in JSON or raw bytes:
 *
 *     vectors VECTORS STARTER_TOKENIZER CLIP_TOKENIZER   tokens, noise and trajectories
 *     draw MODEL SEED STEPS GUIDANCE OUT PROMPT…         a picture for each prompt: OUT.0, OUT.1…, RGB
 *     open MODEL…                                        what is wrong with each; empty: nothing
 */
fun main(arguments: Array<String>) {
    val (command, rest) = arguments.first() to arguments.drop(1)
    try {
        when (command) {
            "vectors" -> vectors(rest)
            "draw" -> draw(rest)
            "open" -> println(rest.joinToString(",", "[", "]") { text(problem(it)) })
        }
    } catch (error: BundleError) {
        System.err.println("error: ${error.message}")
        exitProcess(2)
    }
}

private fun problem(folder: String): String =
    try {
        Model.open(File(folder))
        ""
    } catch (error: BundleError) {
        error.message ?: "?"
    }

private fun text(value: String): String = "\"" + value.replace("\\", "/").replace("\"", "'") + "\""

@Suppress("UNCHECKED_CAST")
private fun entries(file: Any?, name: String) = (file as Map<String, Any?>)[name] as List<Map<String, Any?>>

private fun vectors(arguments: List<String>) {
    val file = Json.parse(File(arguments[0]).readText())
    val tokenizers = mapOf(
        "starter" to Tokenizer.open(File(arguments[1])), "clip" to Tokenizer.open(File(arguments[2])),
    )
    val tokens = entries(file, "tokens").map {
        tokenizers.getValue(it["tokenizer"] as String).encode(it["prompt"] as String).ids.toList()
    }
    val noise = entries(file, "noise").map {
        TorchRandom((it["seed"] as Double).toLong()).normal(size(it)).toList()
    }
    val trajectories = entries(file, "trajectories").map { trajectory(it) }
    println("""{"tokens": $tokens, "noise": $noise, "trajectories": $trajectories}""")
}

private fun size(entry: Map<String, Any?>): Int =
    (entry["shape"] as List<*>).fold(1) { product, side -> product * (side as Double).toInt() }

/** Timesteps first, then the latents after each step. */
private fun trajectory(entry: Map<String, Any?>): List<List<Float>> {
    @Suppress("UNCHECKED_CAST")
    val config = SchedulerConfig(Fields("scheduler", entry["scheduler"] as Map<String, Any?>))
    val sampler = makeSampler(config, (entry["steps"] as Double).toInt())
    val random = TorchRandom((entry["seed"] as Double).toLong())
    val size = size(entry)
    var x = random.normal(size).map { it * sampler.initialScale }.toFloatArray()
    val visited = sampler.timesteps.indices.map { index ->
        val wave = (0.1 * cos(sampler.timesteps[index].toDouble() / 100)).toFloat()
        val output = sampler.modelInput(x, index).map { 0.5f * tanh(it) + wave }.toFloatArray()
        x = sampler.step(output, x, index) { random.normal(size) }
        x.toList()
    }
    return listOf(sampler.timesteps.toList()) + visited
}

private fun draw(arguments: List<String>) {
    val (folder, seed, steps, guidance, out) = arguments
    val model = Model.open(File(folder))
    val tokenizer = Tokenizer.open(File(folder, "tokenizer"))
    val seconds = OnnxRunner(model.folder, threads = 1).use { runner ->
        val pipeline = Pipeline(model, tokenizer, runner)
        arguments.drop(5).mapIndexed { index, prompt ->
            val begun = System.nanoTime()
            val picture = pipeline.draw(
                Request(
                    prompt, seed = seed.toLong() + index,
                    steps = steps.toIntOrNull(), guidanceScale = guidance.toDoubleOrNull(),
                ),
            )
            val bytes = picture.pixels.flatMap { listOf(it shr 16, it shr 8, it) }.map { it.toByte() }
            File("$out.$index").writeBytes(bytes.toByteArray())
            (System.nanoTime() - begun) / 1e9
        }
    }
    println(seconds)
}

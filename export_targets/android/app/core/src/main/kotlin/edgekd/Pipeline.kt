package edgekd

/** Numbers and their shape, in row-major order. */
class Tensor(val values: FloatArray, vararg val shape: Long)

/** What runs the models of a bundle; the app brings ONNX Runtime, tests may bring a stand-in. */
interface Runner : AutoCloseable {
    /** Token ids -> the text encoder's last hidden states [1, L, D]. */
    fun encode(ids: IntArray): Tensor

    /** Latents, timestep and conditions by the U-Net's own names -> its prediction. */
    fun predict(sample: Tensor, timestep: Float, conditions: Map<String, Tensor>): FloatArray

    /** Latents [1, c, h, w] -> a picture [1, 3, H, W] in [-1, 1]. */
    fun decode(latents: Tensor): FloatArray
}

/** A request; null: as the model's maker recommends. */
class Request(
    val prompt: String,
    val negativePrompt: String = "",
    val seed: Long = 0,
    val steps: Int? = null,
    val guidanceScale: Double? = null,
    val height: Int? = null,
    val width: Int? = null,
)

/** A picture: rows of pixels, 0xAARRGGBB, and how many tokens of the prompt did not fit. */
class Picture(val width: Int, val height: Int, val pixels: IntArray, val cut: Int)

/** Prompts to pictures. */
class Pipeline(private val model: Model, private val tokenizer: Tokenizer, private val runner: Runner) {
    /**
     * Draws one picture, the one that Python draws from the same seed.
     *
     * @param onStep is told how many calls of the U-Net are done, and of how many; what it throws
     *     ends the drawing
     */
    fun draw(request: Request, onStep: (Int, Int) -> Unit = { _, _ -> }): Picture {
        val height = request.height ?: model.height
        val width = request.width ?: model.width
        checkSize(height, width)
        val guidance = request.guidanceScale ?: model.guidanceScale
        require(guidance in 0.0..1e4) { "`0 <= guidance_scale <= 10000` must hold, but got $guidance" }
        require(request.negativePrompt.isEmpty() || model.guidanceWidth == null) {
            "a guidance-distilled model takes no negative prompt"
        }
        val sampler = makeSampler(model.scheduler, request.steps ?: model.steps)
        val tokens = tokenizer.encode(request.prompt)
        val branches = branches(tokens, request, guidance)
        val shape = longArrayOf(
            1, model.channels.toLong(), (height / model.scale).toLong(), (width / model.scale).toLong(),
        )
        val size = shape.fold(1L) { product, side -> product * side }.toInt()
        val random = TorchRandom(request.seed)
        val first = random.normal(size)
        var latents = FloatArray(size) { first[it] * sampler.initialScale }
        for (index in sampler.timesteps.indices) {
            val sample = Tensor(sampler.modelInput(latents, index), *shape)
            val outputs = branches.map { runner.predict(sample, sampler.timesteps[index], it) }
            val output = guided(outputs, guidance.toFloat())
            latents = sampler.step(output, latents, index) { random.normal(size) }
            onStep(index + 1, sampler.timesteps.size)
        }
        for (index in latents.indices) latents[index] /= model.factor
        val values = runner.decode(Tensor(latents, *shape))
        return Picture(width, height, pixels(values, width * height), tokens.cut)
    }

    private fun checkSize(height: Int, width: Int) {
        val isNative = height == model.height && width == model.width
        require(isNative || model.isDynamic) {
            "pictures must be ${model.height} by ${model.width}, but got $height by $width"
        }
        require(listOf(height, width).all { it in 1..MAX_SIDE && it % model.multiple == 0 }) {
            "height and width must be multiples of ${model.multiple}, but got $height by $width"
        }
    }

    /** Conditions of the U-Net's calls: away from the first, where there are two, to the last
     * (Ho and Salimans, "Classifier-Free Diffusion Guidance", arXiv 2207.12598, equation 6). */
    private fun branches(tokens: Tokens, request: Request, guidance: Double): List<Map<String, Tensor>> {
        val positive = mapOf(STATES to runner.encode(tokens.ids))
        val width = model.guidanceWidth
        if (width != null) {
            val told = Tensor(guidanceCondition(guidance, width), 1, width.toLong())
            return listOf(positive + ("timestep_cond" to told))
        }
        if (guidance <= 1) return listOf(positive)
        val negative = runner.encode(tokenizer.encode(request.negativePrompt).ids)
        return listOf(mapOf(STATES to negative), positive)
    }

    private fun guided(outputs: List<FloatArray>, scale: Float): FloatArray {
        val to = outputs.last()
        if (outputs.size == 1) return to
        val away = outputs.first()
        return FloatArray(to.size) { away[it] + scale * (to[it] - away[it]) }
    }

    private fun pixels(values: FloatArray, count: Int): IntArray {
        require(values.size == 3 * count) { "the decoder must give 3 x $count values" }
        require(values.all { it.isFinite() }) { "pictures must be finite" }
        fun level(value: Float): Int {
            val unit = (value * 0.5f + 0.5f).coerceIn(0f, 1f)
            return Math.rint((unit * 255).toDouble()).toInt()
        }
        return IntArray(count) {
            val red = level(values[it])
            val green = level(values[count + it])
            val blue = level(values[2 * count + it])
            (0xFF shl 24) or (red shl 16) or (green shl 8) or blue
        }
    }

    private companion object {
        const val STATES = "encoder_hidden_states"
        const val MAX_SIDE = 4096
    }
}

package edgekd

import kotlin.math.sqrt

/**
 * One session: its steps are taken once, in order.
 *
 * x: latents at one noise level; output: what the U-Net predicts for them; draw: fresh standard
 * normal noise of their size. alpha-bar: share of the picture's variance left at a level; sigma:
 * the noise's deviation over the picture's scale.
 */
interface Sampler {
    /** What the U-Net is told at each call. */
    val timesteps: FloatArray

    /** Deviation of the latents that the session starts from. */
    val initialScale: Float

    /** The latents as the U-Net wants them at call [index]. */
    fun modelInput(x: FloatArray, index: Int): FloatArray

    /** The latents after call [index]. */
    fun step(output: FloatArray, x: FloatArray, index: Int, draw: () -> FloatArray): FloatArray
}

/** A session of so many steps. */
fun makeSampler(config: SchedulerConfig, steps: Int): Sampler =
    when (config.name) {
        "DDIMScheduler" -> Ddim(config, steps)
        "DPMSolverMultistepScheduler" -> FirstOrder(config, steps)
        "LCMScheduler" -> Lcm(config, steps)
        else -> Euler(config, steps)
    }

/** What an output says: x = signal * picture + noise * epsilon (arXiv 2006.11239, equation 15);
 * v = signal * epsilon - noise * picture (arXiv 2202.00512, appendix D). */
private class Level(
    private val config: SchedulerConfig,
    private val signal: Float,
    private val noise: Float,
) {
    constructor(config: SchedulerConfig, alphaBar: Float) :
        this(config, sqrt(alphaBar), sqrt(1f - alphaBar))

    fun picture(x: Float, output: Float): Float {
        val found = if (config.isVelocity) signal * x - noise * output else (x - noise * output) / signal
        return config.clipRange?.let { found.coerceIn(-it, it) } ?: found
    }

    fun epsilon(x: Float, output: Float): Float =
        if (config.isVelocity) signal * output + noise * x else output
}

/** Song et al., "Denoising Diffusion Implicit Models" (arXiv 2010.02502), equation 12 with eta 0. */
private class Ddim(private val config: SchedulerConfig, private val steps: Int) : Sampler {
    private val visited = wholeTimesteps(config, steps)
    private val table = config.alphaBars()
    override val timesteps = FloatArray(steps) { visited[it].toFloat() }
    override val initialScale = 1f

    override fun modelInput(x: FloatArray, index: Int) = x

    override fun step(output: FloatArray, x: FloatArray, index: Int, draw: () -> FloatArray): FloatArray {
        val level = Level(config, table[visited[index]])
        val previous = visited[index] - config.trainSteps / steps
        val last = if (config.setAlphaToOne) 1f else table[0]
        val alphaBar = if (previous >= 0) table[previous] else last
        val signal = sqrt(alphaBar)
        val noise = sqrt(1f - alphaBar)
        return FloatArray(x.size) {
            signal * level.picture(x[it], output[it]) + noise * level.epsilon(x[it], output[it])
        }
    }
}

/** Luo et al., "Latent Consistency Models" (arXiv 2310.04378), algorithm 3. */
private class Lcm(private val config: SchedulerConfig, steps: Int) : Sampler {
    private val visited = distilledTimesteps(config, steps)
    private val table = config.alphaBars()
    override val timesteps = FloatArray(steps) { visited[it].toFloat() }
    override val initialScale = 1f

    override fun modelInput(x: FloatArray, index: Int) = x

    override fun step(output: FloatArray, x: FloatArray, index: Int, draw: () -> FloatArray): FloatArray {
        val level = Level(config, table[visited[index]])
        // Song et al., "Consistency Models" (arXiv 2303.01469), appendix C, on scaled timesteps.
        val scaled = timesteps[index].toDouble() * config.timestepScaling
        val norm = scaled * scaled + SIGMA_DATA * SIGMA_DATA
        val skip = (SIGMA_DATA * SIGMA_DATA / norm).toFloat()
        val out = (scaled / sqrt(norm)).toFloat()
        val denoised = FloatArray(x.size) { out * level.picture(x[it], output[it]) + skip * x[it] }
        if (index == timesteps.size - 1) return denoised
        val following = table[visited[index + 1]]
        val signal = sqrt(following)
        val noise = sqrt(1f - following)
        val fresh = draw()
        return FloatArray(x.size) { signal * denoised[it] + noise * fresh[it] }
    }

    private companion object {
        const val SIGMA_DATA = 0.5
    }
}

/** Karras et al. (arXiv 2206.00364), algorithm 2 without churn: Euler's method for the ODE
 * dx/dsigma = (x - picture) / sigma. */
private class Euler(private val config: SchedulerConfig, steps: Int) : Sampler {
    private val sigmas: FloatArray
    override val timesteps: FloatArray
    override val initialScale: Float

    init {
        val table = config.sigmas()
        val visited = spacedTimesteps(config, steps)
        timesteps = FloatArray(steps) { visited[it].toFloat() }
        val last = if (config.lastIsZero) 0f else table[0]
        sigmas = FloatArray(steps + 1) { if (it < steps) levelAt(table, visited[it]) else last }
        val largest = sigmas.max()
        // `leading` starts below the last level, where the picture's own variance still shows.
        initialScale = if (config.spacing == "leading") sqrt(largest * largest + 1f) else largest
    }

    override fun modelInput(x: FloatArray, index: Int): FloatArray {
        val scale = sqrt(sigmas[index] * sigmas[index] + 1f)
        return FloatArray(x.size) { x[it] / scale }
    }

    override fun step(output: FloatArray, x: FloatArray, index: Int, draw: () -> FloatArray): FloatArray {
        val sigma = sigmas[index]
        val move = sigmas[index + 1] - sigma
        val variance = sigma * sigma + 1f
        return FloatArray(x.size) {
            val picture = if (config.isVelocity) {
                output[it] * (-sigma / sqrt(variance)) + x[it] / variance
            } else {
                x[it] - sigma * output[it]
            }
            x[it] + (x[it] - picture) / sigma * move
        }
    }
}

/** Lu et al., "DPM-Solver++" (arXiv 2211.01095), algorithm 1 in first order, which is DDIM: what
 * students are exported with for clients that have no DDIM. */
private class FirstOrder(private val config: SchedulerConfig, steps: Int) : Sampler {
    private val sigmas: DoubleArray
    override val timesteps: FloatArray
    override val initialScale = 1f

    init {
        val table = config.sigmas()
        val visited = multistepTimesteps(config, steps)
        timesteps = FloatArray(steps) { visited[it].toFloat() }
        val last = if (config.lastIsZero) 0.0 else table[0].toDouble()
        sigmas = DoubleArray(steps + 1) { if (it < steps) table[visited[it]].toDouble() else last }
    }

    override fun modelInput(x: FloatArray, index: Int) = x

    override fun step(output: FloatArray, x: FloatArray, index: Int, draw: () -> FloatArray): FloatArray {
        val sigma = sigmas[index]
        val next = sigmas[index + 1]
        val signal = signal(sigma)
        val level = Level(config, signal.toFloat(), (sigma * signal).toFloat())
        val ofX = (next * signal(next) / (sigma * signal)).toFloat()
        // e^-h, where h is the step in the logarithm of signal over noise, is next / sigma.
        val ofPicture = (signal(next) * (1 - next / sigma)).toFloat()
        return FloatArray(x.size) { ofX * x[it] + ofPicture * level.picture(x[it], output[it]) }
    }

    private fun signal(sigma: Double): Double = 1 / sqrt(sigma * sigma + 1)
}

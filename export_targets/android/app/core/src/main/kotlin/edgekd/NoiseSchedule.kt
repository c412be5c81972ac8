package edgekd

import kotlin.math.cos
import kotlin.math.sqrt

/** Settings of `scheduler_config.json` that the samplers here obey; others must change nothing. */
class SchedulerConfig(values: Fields) {
    val name = values.text("_class_name")
    val trainSteps = values.integer("num_train_timesteps", 1000)
    val spacing: String
    val stepsOffset = values.integer("steps_offset", 0)
    val isVelocity: Boolean
    val setAlphaToOne = values.truth("set_alpha_to_one", true)
    val zeroSnr = values.truth("rescale_betas_zero_snr", false)
    val clipRange: Float?
    val originalSteps = values.integer("original_inference_steps", 50)
    val timestepScaling = values.number("timestep_scaling", 10.0)
    val lastIsZero: Boolean
    private val betaStart: Double
    private val betaEnd: Double
    private val isScaledLinear: Boolean

    init {
        require(name in DEFAULT_SPACING) { "the scheduler must be one of ${DEFAULT_SPACING.keys}: $name" }
        val isLcm = name == "LCMScheduler"
        betaStart = values.number("beta_start", if (isLcm) 0.00085 else 0.0001)
        betaEnd = values.number("beta_end", if (isLcm) 0.012 else 0.02)
        isScaledLinear = values.choice(
            "beta_schedule", if (isLcm) "scaled_linear" else "linear", "linear", "scaled_linear",
        ) == "scaled_linear"
        spacing = values.choice(
            "timestep_spacing", DEFAULT_SPACING.getValue(name), "leading", "linspace", "trailing",
        )
        isVelocity = values.choice("prediction_type", "epsilon", "epsilon", "v_prediction") ==
            "v_prediction"
        val clips = name in CLIPPING && values.truth("clip_sample", name == "DDIMScheduler")
        clipRange = if (clips) values.number("clip_sample_range", 1.0).toFloat() else null
        lastIsZero = values.choice("final_sigmas_type", "zero", "zero", "sigma_min") == "zero"
        for (setting in NEUTRAL) {
            require(!values.has(setting) || values.values[setting] == false) {
                "`$setting` of the scheduler must be off: the app does not draw with it"
            }
        }
        if (name == DPM) {
            values.choice("algorithm_type", "dpmsolver++", "dpmsolver++")
            val order = values.integer("solver_order", 2)
            require(order == 1) { "`solver_order` must be 1: the app draws with no other, but got $order" }
        }
        require(trainSteps in 2..1_000_000 && stepsOffset in 0 until trainSteps) {
            "the scheduler's timesteps must be in range"
        }
        require(0 < betaStart && betaStart <= betaEnd && betaEnd < 1) {
            "`0 < beta_start <= beta_end < 1` must hold in the scheduler's settings"
        }
        require(!isLcm || originalSteps in 1..trainSteps) {
            "`1 <= original_inference_steps <= num_train_timesteps` must hold"
        }
        // 0 / 0: nothing follows from the noise of noise alone.
        require(!zeroSnr || isVelocity) { "zero terminal SNR must go with v_prediction" }
    }

    /**
     * The products alpha-bar of Ho et al., "Denoising Diffusion Probabilistic Models" (arXiv
     * 2006.11239, equation 4), rounded to single precision where torch rounds.
     */
    fun alphaBars(): FloatArray {
        val betas = if (isScaledLinear) {
            ramp(sqrt(betaStart), sqrt(betaEnd), trainSteps).map { it * it }.toFloatArray()
        } else {
            ramp(betaStart, betaEnd, trainSteps)
        }
        val products = products(FloatArray(trainSteps) { 1f - betas[it] })
        return if (zeroSnr) zeroTerminal(products) else products
    }

    /** The noise over the picture's scale at every training timestep, rising. */
    fun sigmas(): FloatArray {
        val table = alphaBars()
        // All but zero: the first sigma must not be infinite.
        if (zeroSnr) table[table.size - 1] = 1f / (1 shl 24)
        return FloatArray(table.size) { sqrt((1f - table[it]) / table[it]) }
    }

    private fun products(values: FloatArray): FloatArray {
        var product = 1.0
        return FloatArray(values.size) {
            product *= values[it]
            product.toFloat()
        }
    }

    /** From both ends to the middle, each value rounded once, as torch's vector code does. */
    private fun ramp(start: Double, stop: Double, count: Int): FloatArray {
        val first = start.toFloat()
        val last = stop.toFloat()
        val step = ((last - first) / (count - 1).toFloat()).toDouble()
        return FloatArray(count) {
            val value = if (it < count / 2) first + step * it else last - step * (count - 1 - it)
            value.toFloat()
        }
    }

    /** Lin et al., "Common Diffusion Noise Schedules and Sample Steps are Flawed" (arXiv
     * 2305.08891), algorithm 1: the last level is noise alone. */
    private fun zeroTerminal(products: FloatArray): FloatArray {
        val roots = FloatArray(products.size) { sqrt(products[it]) }
        val last = roots.last()
        val scale = roots[0] / (roots[0] - last)
        val scaled = FloatArray(roots.size) { ((roots[it] - last) * scale).let { root -> root * root } }
        return products(
            FloatArray(scaled.size) {
                val alpha = if (it == 0) scaled[0] else scaled[it] / scaled[it - 1]
                1f - (1f - alpha)
            },
        )
    }

    companion object {
        private const val DPM = "DPMSolverMultistepScheduler"
        private val DEFAULT_SPACING = mapOf(
            "DDIMScheduler" to "leading",
            DPM to "linspace",
            "EulerDiscreteScheduler" to "linspace",
            "LCMScheduler" to "leading",
        )
        private val CLIPPING = setOf("DDIMScheduler", "LCMScheduler")
        private val NEUTRAL = listOf(
            "thresholding", "trained_betas", "use_karras_sigmas", "use_exponential_sigmas",
            "use_beta_sigmas", "use_lu_lambdas", "use_flow_sigmas", "sigma_min", "sigma_max",
        )
    }
}

internal fun require(holds: Boolean, message: () -> String) {
    if (!holds) throw BundleError(message())
}

/** Timesteps of a session, falling (arXiv 2305.08891, table 2); `linspace` gives fractions. */
fun spacedTimesteps(config: SchedulerConfig, steps: Int): DoubleArray {
    val count = config.trainSteps
    require(steps in 1..count) { "`1 <= steps <= $count` must hold, but got $steps" }
    return when (config.spacing) {
        "linspace" -> linspace(count - 1.0, steps).map { it.toFloat().toDouble() }
        "trailing" -> {
            // numpy.arange's stride, the difference of its first two values: halves round by its last bit.
            val stride = count - count.toDouble() / steps - count
            List(steps) { Math.rint(count + it * stride) - 1 }
        }
        else -> List(steps) { (steps - 1.0 - it) * (count / steps) + config.stepsOffset }
    }.toDoubleArray().also {
        require(it[0] < count) { "the first timestep must be below $count: take fewer steps" }
    }
}

/** As [spacedTimesteps], for samplers that look single timesteps up. */
fun wholeTimesteps(config: SchedulerConfig, steps: Int): IntArray {
    val spaced = spacedTimesteps(config, steps)
    if (config.spacing != "linspace") return IntArray(steps) { spaced[it].toInt() }
    // Before they are rounded to single precision, which could fall on the other side.
    return linspace(config.trainSteps - 1.0, steps).map { Math.rint(it).toInt() }.toIntArray()
}

/** As [wholeTimesteps], with a point more, which is left out: the lowest, where the last step ends. */
fun multistepTimesteps(config: SchedulerConfig, steps: Int): IntArray {
    val count = config.trainSteps
    require(steps in 1 until count) { "`1 <= steps < $count` must hold, but got $steps" }
    return when (config.spacing) {
        "trailing" -> wholeTimesteps(config, steps)
        "linspace" ->
            linspace(count - 1.0, steps + 1).dropLast(1).map { Math.rint(it).toInt() }.toIntArray()
        else -> IntArray(steps) { (steps - it) * (count / (steps + 1)) + config.stepsOffset }
    }
}

/** A level of a fractional timestep: linear between its neighbours. */
fun levelAt(table: FloatArray, timestep: Double): Float {
    val below = timestep.toInt()
    if (below >= table.size - 1) return table.last()
    val rise = table[below + 1].toDouble() - table[below]
    return (rise * (timestep - below) + table[below]).toFloat()
}

/** `steps` values from 0 to `last`, in falling order. */
private fun linspace(last: Double, steps: Int): List<Double> {
    if (steps == 1) return listOf(0.0)
    val step = last / (steps - 1)
    return List(steps) { if (it == 0) last else (steps - 1 - it) * step }
}

/** The timesteps of consistency students: evenly among those that they were distilled on. */
fun distilledTimesteps(config: SchedulerConfig, steps: Int): IntArray {
    val original = config.originalSteps
    require(steps in 1..original) { "`1 <= steps <= $original` must hold, but got $steps" }
    val skip = config.trainSteps / original
    return IntArray(steps) {
        val index = Math.floor(it * (original.toDouble() / steps)).toInt()
        (original - index) * skip - 1
    }
}

/**
 * What a U-Net distilled with its guidance is told, `timestep_cond`: sines and cosines of
 * 1000 (scale - 1) at falling frequencies (Meng et al., "On Distillation of Guided Diffusion
 * Models", arXiv 2210.03142, section 3.1; frequencies as in diffusers).
 */
fun guidanceCondition(scale: Double, width: Int): FloatArray {
    val half = width / 2
    val rate = (-Math.log(1e4) / (half - 1)).toFloat()
    val values = FloatArray(width)
    for (index in 0 until half) {
        val frequency = Math.exp((index * rate).toDouble()).toFloat()
        val angle = (((scale - 1) * 1000).toFloat() * frequency).toDouble()
        values[index] = Math.sin(angle).toFloat()
        values[half + index] = cos(angle).toFloat()
    }
    return values
}

package edgekd

import kotlin.math.cos
import kotlin.math.ln
import kotlin.math.ln1p
import kotlin.math.sin
import kotlin.math.sqrt

/**
 * The noise of `torch.randn` on a CPU: a seed starts the same picture as in Python.
 *
 * 16 values or more come in blocks of 16 from uniforms of 24 bits, the first eight of a block
 * paired with the last eight (Box and Muller, 1958, "A Note on the Generation of Random Normal
 * Deviates"). A size that is no multiple of 16 has its last 16 values drawn anew. Fewer than 16
 * come in double precision, two for each pair of uniforms, one of them kept for the next call.
 *
 * torch's vectorised kernel approximates logarithm, sine and cosine: 5e-7 lie between its values
 * and these.
 *
 * @param seed its low 32 bits decide, as in torch
 */
class TorchRandom(seed: Long) {
    private val twister = MersenneTwister(seed.toInt())
    private var spare: Double? = null

    /** Standard normal values. */
    fun normal(size: Int): FloatArray {
        if (size < BLOCK) return FloatArray(size) { one().toFloat() }
        val values = FloatArray(size) { twister.uniform() }
        val whole = size - size % BLOCK
        for (start in 0 until whole step BLOCK) boxMuller(values, start)
        if (whole < size) {
            val start = size - BLOCK
            for (index in start until size) values[index] = twister.uniform()
            boxMuller(values, start)
        }
        return values
    }

    /** Uniforms of a block become normals, rounded to single precision where torch rounds. */
    private fun boxMuller(values: FloatArray, start: Int) {
        for (index in start until start + HALF) {
            val angle = (TWO_PI * values[index + HALF]).toDouble()
            val logarithm = ln((1f - values[index]).toDouble()).toFloat()
            val radius = sqrt(-2f * logarithm)
            values[index] = radius * cos(angle).toFloat()
            values[index + HALF] = radius * sin(angle).toFloat()
        }
    }

    private fun one(): Double {
        spare?.let {
            spare = null
            return it
        }
        val angle = 2 * Math.PI * twister.double()
        val radius = sqrt(-2 * ln1p(-twister.double()))
        spare = radius * sin(angle)
        return radius * cos(angle)
    }

    private companion object {
        const val BLOCK = 16
        const val HALF = 8
        const val TWO_PI = (2 * Math.PI).toFloat()
    }
}

/** Matsumoto and Nishimura, "Mersenne Twister" (1998), MT19937 as the authors seed it. */
private class MersenneTwister(seed: Int) {
    private val state = IntArray(SIZE)
    private var at = SIZE

    init {
        state[0] = seed
        for (index in 1 until SIZE) {
            val last = state[index - 1]
            state[index] = 1812433253 * (last xor (last ushr 30)) + index
        }
    }

    /** 24 bits of a word, in [0, 1). */
    fun uniform(): Float = (word() and 0xFFFFFF) * (1f / (1 shl 24))

    /** 53 bits of two words, in [0, 1). */
    fun double(): Double {
        val high = word().toLong() shl 32
        val bits = high or (word().toLong() and 0xFFFFFFFFL)
        return (bits and ((1L shl 53) - 1)) * (1.0 / (1L shl 53))
    }

    private fun word(): Int {
        if (at == SIZE) renew()
        var word = state[at++]
        word = word xor (word ushr 11)
        word = word xor ((word shl 7) and 0x9D2C5680.toInt())
        word = word xor ((word shl 15) and 0xEFC60000.toInt())
        return word xor (word ushr 18)
    }

    private fun renew() {
        for (index in 0 until SIZE) {
            val next = state[(index + 1) % SIZE]
            val mixed = (state[index] and Int.MIN_VALUE) or (next and Int.MAX_VALUE)
            val odd = if (mixed and 1 == 1) 0x9908B0DF.toInt() else 0
            state[index] = state[(index + SHIFT) % SIZE] xor (mixed ushr 1) xor odd
        }
        at = 0
    }

    private companion object {
        const val SIZE = 624
        const val SHIFT = 397
    }
}

package edgekd

import ai.onnxruntime.NodeInfo
import ai.onnxruntime.OnnxJavaType
import ai.onnxruntime.OnnxTensor
import ai.onnxruntime.OrtEnvironment
import ai.onnxruntime.OrtException
import ai.onnxruntime.OrtSession
import ai.onnxruntime.TensorInfo
import java.io.File
import java.nio.FloatBuffer
import java.nio.IntBuffer
import java.nio.LongBuffer

/**
 * The models of a bundle in ONNX Runtime, each opened when it is first used. Nothing here is
 * Android's own: the same file runs on a plain JVM.
 *
 * @param threads inside an operator; 0: what the runtime chooses
 */
class OnnxRunner(private val folder: File, private val threads: Int = 0) : Runner {
    private val environment = OrtEnvironment.getEnvironment()
    private val sessions = HashMap<String, OrtSession>()

    override fun encode(ids: IntArray): Tensor {
        val values = FloatArray(ids.size) { ids[it].toFloat() }
        return run("text_encoder", mapOf("input_ids" to Tensor(values, 1, ids.size.toLong())), "last_hidden_state")
    }

    override fun predict(sample: Tensor, timestep: Float, conditions: Map<String, Tensor>): FloatArray {
        val inputs = mapOf("sample" to sample, "timestep" to Tensor(floatArrayOf(timestep)))
        return run("unet", inputs + conditions, "out_sample").values
    }

    override fun decode(latents: Tensor): FloatArray =
        run("vae_decoder", mapOf("latent_sample" to latents), "sample").values

    override fun close() {
        sessions.values.forEach { it.close() }
        sessions.clear()
    }

    private fun run(part: String, inputs: Map<String, Tensor>, output: String): Tensor {
        val session = sessions.getOrPut(part) { open(part) }
        val fed = HashMap<String, OnnxTensor>()
        try {
            for ((name, node) in session.inputInfo) {
                val given = inputs[name] ?: throw BundleError("$part takes an input that the app does not have: $name")
                fed[name] = tensor(given, node)
            }
            session.run(fed, setOf(output)).use { result ->
                val found = result[0] as OnnxTensor
                // Half precision comes out widened.
                val buffer = found.floatBuffer
                return Tensor(FloatArray(buffer.remaining()).also { buffer.get(it) }, *found.info.shape)
            }
        } catch (error: OrtException) {
            throw BundleError("$part must run as its folder says: ${error.message}")
        } finally {
            fed.values.forEach { it.close() }
        }
    }

    private fun tensor(given: Tensor, node: NodeInfo): OnnxTensor {
        val values = given.values
        return when (val type = (node.info as TensorInfo).type) {
            OnnxJavaType.INT64 -> OnnxTensor.createTensor(
                environment, LongBuffer.wrap(LongArray(values.size) { values[it].toLong() }), given.shape,
            )
            OnnxJavaType.INT32 -> OnnxTensor.createTensor(
                environment, IntBuffer.wrap(IntArray(values.size) { values[it].toInt() }), given.shape,
            )
            OnnxJavaType.FLOAT -> OnnxTensor.createTensor(environment, FloatBuffer.wrap(values), given.shape)
            else -> throw BundleError("inputs of the models must be float32 or integers, not $type")
        }
    }

    private fun open(part: String): OrtSession {
        val path = File(File(folder, part), "model.ort")
        try {
            OrtSession.SessionOptions().use { options ->
                options.setIntraOpNumThreads(threads)
                options.setInterOpNumThreads(1)
                return environment.createSession(path.path, options)
            }
        } catch (error: OrtException) {
            throw BundleError("ONNX Runtime must be able to open $part/model.ort: ${error.message}")
        }
    }
}

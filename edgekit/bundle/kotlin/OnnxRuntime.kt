// The network in ONNX Runtime for Android.

package edgekit.model

import ai.onnxruntime.OnnxTensor
import ai.onnxruntime.OrtEnvironment
import ai.onnxruntime.OrtSession
import java.nio.ByteBuffer
import java.nio.FloatBuffer
import java.nio.LongBuffer
import org.json.JSONObject

/** The file of the network that ONNX Runtime reads. */
internal fun modelFile(description: JSONObject): String =
    objectsOf(description.getJSONObject("model").getJSONArray("forms"))
        .firstOrNull { it.getString("format") != "tflite" }?.getString("file")
        ?: throw IllegalArgumentException("ONNX Runtime runs .onnx and .ort, and the bundle has neither")

/** What runs a network; `model` is a direct buffer, which may be a mapped file. */
internal fun openSession(model: ByteBuffer, output: String, threads: Int): Network {
    val environment = OrtEnvironment.getEnvironment()
    val session = OrtSession.SessionOptions().use { options ->
        options.setIntraOpNumThreads(threads)
        environment.createSession(model, options)
    }
    return Session(environment, session, output)
}

private class Session(
    private val environment: OrtEnvironment,
    private val session: OrtSession,
    private val output: String,
) : Network {
    override fun run(inputs: Inputs): FloatArray {
        val feeds = inputs.mapValues { (_, values) -> tensor(environment, values) }
        try {
            return session.run(feeds, setOf(output)).use { found ->
                val buffer = (found.get(0) as OnnxTensor).floatBuffer
                FloatArray(buffer.remaining()).also(buffer::get)
            }
        } finally {
            feeds.values.forEach(OnnxTensor::close)
        }
    }

    override fun close() = session.close()
}

private fun tensor(environment: OrtEnvironment, values: Values): OnnxTensor = when (values) {
    is Values.Longs -> OnnxTensor.createTensor(environment, LongBuffer.wrap(values.data), values.shape)
    is Values.Floats -> OnnxTensor.createTensor(environment, FloatBuffer.wrap(values.data), values.shape)
}

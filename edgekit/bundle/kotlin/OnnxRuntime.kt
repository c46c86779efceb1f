// The network in ONNX Runtime for Android.

package edgekit.model

import ai.onnxruntime.OnnxTensor
import ai.onnxruntime.OrtEnvironment
import ai.onnxruntime.OrtSession
import java.nio.ByteBuffer
import java.nio.FloatBuffer
import java.nio.LongBuffer
import org.json.JSONObject

/** Formats of the network that ONNX Runtime reads. */
internal val FORMATS = listOf("onnx", "ort")

/** What runs a network; `model` is a direct buffer, which may be a mapped file. */
internal fun openNetwork(description: JSONObject, model: ByteBuffer, threads: Int): Network {
    val output = description.getJSONObject("answer").getString("output")
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

// The network in LiteRT for Android.

package edgekit.model

import java.nio.Buffer
import java.nio.ByteBuffer
import java.nio.FloatBuffer
import java.nio.IntBuffer
import java.nio.LongBuffer
import org.json.JSONObject
import org.tensorflow.lite.DataType
import org.tensorflow.lite.Interpreter
import org.tensorflow.lite.Tensor

/** Formats of the network that LiteRT reads. */
internal val FORMATS = listOf("tflite")

/** What runs a network; `model` is a direct buffer, which may be a mapped file. */
internal fun openNetwork(description: JSONObject, model: ByteBuffer, threads: Int): Network {
    val output = description.getJSONObject("answer").getString("output")
    val described = description.getJSONObject("model")
    val names = objectsOf(described.getJSONArray("inputs")).map { it.getString("name") }
    val keys = described.getJSONObject("signatures").keys().asSequence().map { it as String }.toList()
    return Graph(Interpreter(model, Interpreter.Options().setNumThreads(threads)), keys, names, output)
}

/** An entry point of the file: what it takes, by name, and what it gives. */
private class Entry(val key: String, val inputs: Map<String, Tensor>, val output: Tensor) {
    /** A sample of its size, or one that is shorter in the last dimension. */
    fun holds(sample: Inputs): Boolean = sample.all { (name, values) ->
        val (given, taken) = values.shape.map { it.toInt() } to inputs.getValue(name).shape().toList()
        given.dropLast(1) == taken.dropLast(1) && given.last() <= taken.last()
    }
}

private class Graph(
    private val interpreter: Interpreter,
    private val keys: List<String>,
    private val names: List<String>,
    private val output: String,
) : Network {
    /** The smallest first. */
    private val entries by lazy { keys.map(::entry).sortedBy { it.inputs.values.sumOf(Tensor::numElements) } }

    override fun run(inputs: Inputs): FloatArray {
        val entry = requireNotNull(entries.firstOrNull { it.holds(inputs) }) {
            "the sample is larger than every entry point of the model"
        }
        val feeds = inputs.mapValues { (name, values) -> filled(values, entry.inputs.getValue(name)) }
        val answer = FloatBuffer.allocate(entry.output.numElements())
        interpreter.runSignature(feeds, mapOf(output to answer), entry.key)
        return answer.array()
    }

    override fun close() = interpreter.close()

    private fun entry(key: String): Entry {
        val inputs = names.associateWith { interpreter.getInputTensorFromSignature(it, key) }
        return Entry(key, inputs, interpreter.getOutputTensorFromSignature(output, key))
    }
}

/** Values in the type that a tensor has, with zeros behind each row that is shorter than the tensor's. */
private fun filled(values: Values, tensor: Tensor): Buffer {
    val (short, long) = values.shape.last().toInt() to tensor.shape().last()
    fun place(index: Int) = index / short * long + index % short
    val (type, count) = tensor.dataType() to tensor.numElements()
    return when {
        values is Values.Longs && type == DataType.INT32 ->
            IntBuffer.allocate(count).also { values.data.forEachIndexed { at, id -> it.put(place(at), id.toInt()) } }
        values is Values.Longs && type == DataType.INT64 ->
            LongBuffer.allocate(count).also { values.data.forEachIndexed { at, id -> it.put(place(at), id) } }
        values is Values.Floats && type == DataType.FLOAT32 ->
            FloatBuffer.allocate(count).also { values.data.forEachIndexed { at, one -> it.put(place(at), one) } }
        else -> throw IllegalArgumentException("the model has an input of the type $type, which this code does not feed")
    }
}

// A bundle as a model: raw input in, labels with scores out. What runs the network and what reads files is handed in,
// so that this file needs no Android.

package edgekit.model

import kotlin.math.exp
import org.json.JSONObject

const val BUNDLE_SCHEMA = "edgekit.bundle/1"

/** A tensor of the model, with its shape: token ids are 64-bit integers, everything else is floats. */
sealed class Values(val shape: LongArray) {
    class Longs(val data: LongArray, shape: LongArray) : Values(shape)
    class Floats(val data: FloatArray, shape: LongArray) : Values(shape)
}

typealias Inputs = Map<String, Values>

/** What runs the network; `close` gives its memory back. */
interface Network : AutoCloseable {
    /** Named tensors in, the numbers of the answer out. */
    fun run(inputs: Inputs): FloatArray
}

/** Makes what runs the network that bundle.json describes. */
typealias Open = (JSONObject) -> Network

/** Reads a file of the bundle, by its path from bundle.json. */
typealias Read = (String) -> ByteArray

data class Prediction(val label: String, val score: Double)

/** A loaded bundle; not for several threads at once. `close` gives the network's memory back. */
class Model private constructor(
    private val description: JSONObject,
    private val network: Network,
    val labels: List<String>,
    private val tokenizer: Tokenizer?,
) : AutoCloseable {
    private val preprocessing = description.getJSONObject("preprocessing")

    /** Labels with scores of a text, or of two, the best first. */
    fun predict(text: String, pair: String? = null): List<Prediction> = predictions(prepare(text, pair))

    /** Labels with scores of an image, the best first. */
    fun predict(image: Image): List<Prediction> = predictions(prepare(image))

    /** What the model takes, by name, with a batch of one. */
    fun prepare(text: String, pair: String? = null): Inputs {
        val known = requireNotNull(tokenizer) { "the model takes images, and was given a text" }
        val encoded = known.encode(text, pair)
        val all = mapOf("ids" to encoded.ids, "segments" to encoded.segments, "mask" to encoded.ids.map { 1 })
        return all.filterKeys { !preprocessing.isNull(it) }.entries.associate { (key, numbers) ->
            preprocessing.getString(key) to
                Values.Longs(LongArray(numbers.size) { numbers[it].toLong() }, longArrayOf(1, numbers.size.toLong()))
        }
    }

    fun prepare(image: Image): Inputs {
        require(tokenizer == null) { "the model takes texts, and was given an image" }
        val values = prepareImage(image, preprocessing.getInt("channels"), preprocessing.getJSONArray("steps"))
        return mapOf(preprocessing.getString("input") to values)
    }

    /** The model's answer to prepared inputs, one number a class. */
    fun output(inputs: Inputs): FloatArray = network.run(inputs)

    override fun close() = network.close()

    private fun predictions(inputs: Inputs): List<Prediction> {
        val scores = scores(network.run(inputs))
        return labels.mapIndexed { index, label -> Prediction(label, scores[index]) }.sortedByDescending { it.score }
    }

    private fun scores(output: FloatArray): List<Double> {
        val values = output.map { it.toDouble() }
        return when (description.getJSONObject("answer").getString("activation")) {
            "none" -> values
            "sigmoid" -> values.map { 1 / (1 + exp(-it)) }
            else -> softmax(values)
        }
    }

    private fun softmax(values: List<Double>): List<Double> {
        val largest = values.max()
        val grown = values.map { exp(it - largest) }
        val sum = grown.sum()
        return grown.map { it / sum }
    }

    companion object {
        /**
         * Load a bundle; `open` makes what runs the network of its description. Whoever loads it closes it.
         *
         * @throws IllegalArgumentException its parts do not fit each other; `selfTest` says which one is wrong.
         */
        fun load(read: Read, open: Open): Model {
            val description = JSONObject(read("bundle.json").decodeToString())
            val schema = description.getString("schema")
            require(schema == BUNDLE_SCHEMA) { "bundle.json has the schema $schema; this reads $BUNDLE_SCHEMA" }
            val answer = description.getJSONObject("answer")
            val labels = read(answer.getString("labels")).decodeToString().split("\n").dropLast(1)
            require(labels.size == answer.getInt("count")) {
                "${answer.getString("labels")} has ${labels.size} lines, not ${answer.getInt("count")}"
            }
            val preprocessing = description.getJSONObject("preprocessing")
            val tokenizer = if (preprocessing.getString("kind") == "text") {
                Tokenizer(JSONObject(read(preprocessing.getString("compiled")).decodeToString()))
            } else {
                null
            }
            return Model(description, open(description), labels, tokenizer)
        }
    }
}

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

/** Runs the network: named tensors in, the numbers of the answer out. */
typealias Run = (Inputs) -> FloatArray

/** Reads a file of the bundle, by its path from bundle.json. */
typealias Read = (String) -> ByteArray

data class Prediction(val label: String, val score: Double)

/** A loaded bundle; not for several threads at once. */
class Model private constructor(
    private val description: JSONObject,
    private val run: Run,
    val labels: List<String>,
    private val tokenizer: Tokenizer?,
) {
    private val preprocessing = description.getJSONObject("preprocessing")

    /** Labels with scores of a text, or of two with a tab between, the best first. */
    fun predict(text: String): List<Prediction> = predictions(prepare(text))

    /** Labels with scores of an image, the best first. */
    fun predict(image: Image): List<Prediction> = predictions(prepare(image))

    /** What the model takes, by name, with a batch of one. */
    fun prepare(text: String): Inputs {
        val known = requireNotNull(tokenizer) { "the model takes images, and was given a text" }
        val tab = text.indexOf('\t')
        val encoded = if (tab < 0) known.encode(text) else known.encode(text.substring(0, tab), text.substring(tab + 1))
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
    fun output(inputs: Inputs): FloatArray = run(inputs)

    private fun predictions(inputs: Inputs): List<Prediction> {
        val scores = scores(run(inputs))
        return labels.mapIndexed { index, label -> Prediction(label, scores[index]) }.sortedByDescending { it.score }
    }

    private fun scores(output: FloatArray): List<Double> {
        val values = output.map { it.toDouble() }
        return when (description.getJSONObject("answer").getString("activation")) {
            "none" -> values
            "sigmoid" -> values.map { 1 / (1 + exp(-it)) }
            else -> values.map { exp(it - values.max()) }.let { grown -> grown.map { it / grown.sum() } }
        }
    }

    companion object {
        /**
         * Load a bundle; `open` makes what runs the network of its description.
         *
         * @throws IllegalArgumentException its parts do not fit each other; `selfTest` says which one is wrong.
         */
        fun load(read: Read, open: (JSONObject) -> Run): Model {
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

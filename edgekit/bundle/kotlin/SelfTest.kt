// The self-test of a bundle: is every file whole, and does the model answer here as it did where it was made?

package edgekit.model

import java.io.IOException
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.security.MessageDigest
import kotlin.math.abs
import org.json.JSONException
import org.json.JSONObject

/**
 * What is wrong, one line each; nothing when all is well. Files are looked at first, so that a damaged one is named,
 * and not what follows from it.
 */
fun selfTest(read: Read, open: Open): List<String> {
    val description = try {
        JSONObject(read("bundle.json").decodeToString())
    } catch (error: IOException) {
        return listOf("bundle.json: $error")
    } catch (error: JSONException) {
        return listOf("bundle.json: $error")
    }
    val problems = fileProblems(read, description.getJSONObject("files")) + labelProblems(read, description)
    if (problems.isNotEmpty()) return problems
    val file = description.getString("selftest")
    val samples = JSONObject(read(file).decodeToString())
    val cases = objectsOf(samples.getJSONArray("cases"))
    val scale = cases.flatMap(::outputOf).maxOf { abs(it) }.let { if (it == 0.0) 1.0 else it }
    return Model.load(read, open).use { model ->
        cases.flatMapIndexed { number, case ->
            caseProblems(read, model, case, samples, scale).map { "$file: sample $number: $it" }
        }
    }
}

private fun fileProblems(read: Read, files: JSONObject): List<String> {
    val problems = mutableListOf<String>()
    for (key in files.keys()) {
        val name = key as String
        val record = files.getJSONObject(name)
        val bytes = readOrNull(read, name)
        val size = record.getInt("size_bytes")
        when {
            bytes == null -> problems += "$name: missing"
            bytes.size != size -> problems += "$name: has ${bytes.size} bytes, not $size"
            sha256(bytes) != record.getString("sha256") -> problems += "$name: changed (its SHA-256 is another one)"
        }
    }
    return problems.sorted()
}

private fun readOrNull(read: Read, name: String): ByteArray? = try {
    read(name)
} catch (_: IOException) {
    null
}

private fun sha256(bytes: ByteArray): String =
    MessageDigest.getInstance("SHA-256").digest(bytes).joinToString("") { "%02x".format(it.toInt() and 0xFF) }

private fun labelProblems(read: Read, description: JSONObject): List<String> {
    val answer = description.getJSONObject("answer")
    val file = answer.getString("labels")
    val count = readOrNull(read, file)?.count { it == '\n'.code.toByte() } ?: 0
    if (count == answer.getInt("count")) return emptyList()
    return listOf("$file: $count labels, and the model has ${answer.getInt("count")} classes")
}

private fun outputOf(case: JSONObject): List<Double> =
    case.getJSONArray("output").let { output -> List(output.length()) { output.getDouble(it) } }

private fun caseProblems(read: Read, model: Model, case: JSONObject, samples: JSONObject, scale: Double): List<String> {
    val (text, pair) = listOf("text", "pair").map { if (case.isNull(it)) null else case.getString(it) }
    val inputs = (if (text == null) model.prepare(imageOf(read, case)) else model.prepare(text, pair)).toMutableMap()
    val tolerance = samples.getDouble("input_tolerance")
    inputProblem(read, inputs, case.getJSONObject("inputs"), tolerance)?.let { return listOf(it) }
    val problems = mutableListOf<String>()
    val output = model.output(inputs)
    val difference = outputOf(case).mapIndexed { index, value -> abs(output[index] - value) / scale }.max()
    val allowed = samples.getDouble("tolerance")
    if (!(difference <= allowed)) {
        problems += "the output differs by ${"%.3g".format(difference)} of the largest answer; allowed: $allowed"
    }
    val label = model.labels[output.indices.maxByOrNull { output[it] }!!]
    if (!case.isNull("label") && case.getString("label") != label) {
        problems += "the label is \"$label\", not \"${case.getString("label")}\""
    }
    return problems
}

private fun imageOf(read: Read, case: JSONObject): Image {
    val data = read(case.getString("image"))
    val (width, height) = case.getInt("width") to case.getInt("height")
    return Image(width, height, data.size / (width * height), data)
}

/**
 * What is wrong with a sample's inputs; where nothing is, they become the stored ones, so that an image that is a step
 * of a pixel away does not count against the model.
 */
private fun inputProblem(read: Read, inputs: MutableMap<String, Values>, expected: JSONObject, tolerance: Double): String? {
    for (key in expected.keys()) {
        val name = key as String
        val stored = expected.getJSONObject(name)
        val shape = numbersOf(stored.getJSONArray("shape")).map { it.toLong() }
        val given = inputs[name]
        if (given == null || given.shape.toList() != shape) {
            return "$name has the shape ${given?.shape?.toList()}, not $shape"
        }
        val buffer = ByteBuffer.wrap(read(stored.getString("file"))).order(ByteOrder.LITTLE_ENDIAN)
        val (difference, allowed) = when (given) {
            is Values.Longs -> {
                val wanted = LongArray(given.data.size) { buffer.getLong() }
                inputs[name] = Values.Longs(wanted, given.shape)
                wanted.indices.maxOf { abs(given.data[it] - wanted[it]).toDouble() } to 0.0
            }
            is Values.Floats -> {
                val wanted = FloatArray(given.data.size) { buffer.getFloat() }
                inputs[name] = Values.Floats(wanted, given.shape)
                wanted.indices.maxOf { abs(given.data[it] - wanted[it]).toDouble() } to tolerance
            }
        }
        if (!(difference <= allowed)) return "$name differs by ${"%.3g".format(difference)}; allowed: $allowed"
    }
    return null
}

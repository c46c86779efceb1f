// What the tests run of a bundle's Kotlin on a Java machine, without Android.
//
//   KotlinProbeKt FOLDER ids     each line, a JSON list of one text or two, becomes a line of ids and one of segments
//   KotlinProbeKt FOLDER image   each line, a JSON list of file, width, height, channels of the file and of the model,
//                                steps and where to, is prepared
//   KotlinProbeKt FOLDER colours a JSON list of Android's colours, width and height becomes a line of bytes
//   KotlinProbeKt FOLDER test    the self-test, with the answers that it expects; then how many networks are open
//   KotlinProbeKt FOLDER run     the self-test, with the answers of the bundle's runtime; then how many are open
//   KotlinProbeKt FOLDER answer  each line, token ids by the name of an input, becomes the answer of the runtime

import edgekit.model.Image
import edgekit.model.Inputs
import edgekit.model.Network
import edgekit.model.Tokenizer
import edgekit.model.Values
import edgekit.model.imageOf
import edgekit.model.modelFile
import edgekit.model.openNetwork
import edgekit.model.prepareImage
import edgekit.model.selfTest
import java.io.File
import java.io.RandomAccessFile
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.channels.FileChannel
import org.json.JSONArray
import org.json.JSONObject

fun main(arguments: Array<String>) {
    val folder = File(arguments[0])
    val read = { name: String -> File(folder, name).readBytes() }
    if (arguments[1] == "ids") {
        val tokenizer = Tokenizer(JSONObject(File(folder, "tokenizer/compiled.json").readText()))
        for (line in generateSequence(::readlnOrNull)) {
            val texts = JSONArray(line)
            val encoded = tokenizer.encode(texts.getString(0), if (texts.length() > 1) texts.getString(1) else null)
            println(encoded.ids.joinToString(",") + ";" + encoded.segments.joinToString(","))
        }
        return
    }
    if (arguments[1] == "image") {
        for (line in generateSequence(::readlnOrNull)) {
            val told = JSONArray(line)
            val image = try {
                Image(told.getInt(1), told.getInt(2), told.getInt(3), File(told.getString(0)).readBytes())
            } catch (error: IllegalArgumentException) {
                println(error.message)
                continue
            }
            val values = prepareImage(image, told.getInt(4), told.getJSONArray(5)) as Values.Floats
            val bytes = ByteBuffer.allocate(values.data.size * 4).order(ByteOrder.LITTLE_ENDIAN)
            values.data.forEach(bytes::putFloat)
            File(told.getString(6)).writeBytes(bytes.array())
        }
        return
    }
    if (arguments[1] == "colours") {
        for (line in generateSequence(::readlnOrNull)) {
            val told = JSONArray(line)
            val colours = told.getJSONArray(0).let { all -> IntArray(all.length()) { all.getLong(it).toInt() } }
            val image = imageOf(colours, told.getInt(1), told.getInt(2))
            println(image.data.joinToString(",") { (it.toInt() and 0xFF).toString() })
        }
        return
    }
    if (arguments[1] == "answer") {
        opened(folder, JSONObject(File(folder, "bundle.json").readText())).use { network ->
            for (line in generateSequence(::readlnOrNull)) println(answer(network, JSONObject(line)))
        }
        return
    }
    var open = 0
    val problems = selfTest(read) { description: JSONObject ->
        open++
        val network = if (arguments[1] == "run") opened(folder, description) else Stored(folder)
        object : Network by network {
            override fun close() {
                network.close()
                open--
            }
        }
    }
    println(problems.joinToString("\n").ifEmpty { "self-test passed" })
    println("$open open")
}

/** The answers that a self-test expects, one after another. */
private class Stored(folder: File) : Network {
    private val cases = JSONObject(File(folder, "selftest/selftest.json").readText()).getJSONArray("cases")
    private var next = 0

    override fun run(inputs: Inputs): FloatArray {
        val output = cases.getJSONObject(next++).getJSONArray("output")
        return FloatArray(output.length()) { output.getDouble(it).toFloat() }
    }

    override fun close() = Unit
}

private fun opened(folder: File, description: JSONObject): Network {
    val model = RandomAccessFile(File(folder, modelFile(description)), "r").use { file ->
        file.channel.map(FileChannel.MapMode.READ_ONLY, 0, file.length())
    }
    return openNetwork(description, model, 1)
}

private fun answer(network: Network, told: JSONObject): String {
    val inputs = told.keys().asSequence().map { it as String }.associateWith { name ->
        val ids = told.getJSONArray(name).let { all -> LongArray(all.length()) { all.getLong(it) } }
        Values.Longs(ids, longArrayOf(1, ids.size.toLong()))
    }
    return try {
        network.run(inputs).joinToString(",")
    } catch (error: IllegalArgumentException) {
        error.message.toString()
    }
}

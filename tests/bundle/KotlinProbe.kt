// What the tests run of a bundle's Kotlin on a Java machine, without Android.
//
//   KotlinProbeKt FOLDER ids     each line, a JSON list of one text or two, becomes a line of ids and one of segments
//   KotlinProbeKt FOLDER image   each line, a JSON list of file, width, height, steps and where to, is prepared
//   KotlinProbeKt FOLDER test    the self-test, with the answers that it expects

import edgekit.model.Image
import edgekit.model.Inputs
import edgekit.model.Run
import edgekit.model.Tokenizer
import edgekit.model.Values
import edgekit.model.prepareImage
import edgekit.model.selfTest
import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
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
            val image = Image(told.getInt(1), told.getInt(2), 3, File(told.getString(0)).readBytes())
            val values = prepareImage(image, 3, told.getJSONArray(3)) as Values.Floats
            val bytes = ByteBuffer.allocate(values.data.size * 4).order(ByteOrder.LITTLE_ENDIAN)
            values.data.forEach(bytes::putFloat)
            File(told.getString(4)).writeBytes(bytes.array())
        }
        return
    }
    val stored = JSONObject(File(folder, "selftest/selftest.json").readText()).getJSONArray("cases")
    val problems = selfTest(read) { _: JSONObject ->
        var next = 0
        val run: Run = { _: Inputs ->
            val output = stored.getJSONObject(next++).getJSONArray("output")
            FloatArray(output.length()) { output.getDouble(it).toFloat() }
        }
        run
    }
    println(problems.joinToString("\n").ifEmpty { "self-test passed" })
}

// The bundle in an app's assets. The model is mapped into memory, which needs it to be stored there uncompressed.

package edgekit.model

import android.content.Context
import android.graphics.Bitmap
import java.io.FileInputStream
import java.nio.MappedByteBuffer
import java.nio.channels.FileChannel
import org.json.JSONObject

/** The bundle in the folder `bundle` of an app's assets; the same from an AI pack that is delivered at install time. */
class AndroidBundle(context: Context, private val threads: Int = 1, private val folder: String = "bundle") {
    private val assets = context.applicationContext.assets

    fun load(): Model = Model.load(::read, ::open)

    /** What is wrong, one line each; nothing when all is well. */
    fun selfTest(): List<String> = selfTest(::read, ::open)

    private fun read(name: String): ByteArray = assets.open("$folder/$name").use { it.readBytes() }

    private fun open(description: JSONObject): Network =
        openNetwork(description, map("$folder/${modelFile(description)}"), threads)

    private fun map(name: String): MappedByteBuffer = assets.openFd(name).use { found ->
        FileInputStream(found.fileDescriptor).use { stream ->
            stream.channel.map(FileChannel.MapMode.READ_ONLY, found.startOffset, found.declaredLength)
        }
    }
}

/** The file of the network that this module runs; what runs it is in `OnnxRuntime.kt` or in `LiteRt.kt`. */
internal fun modelFile(description: JSONObject): String =
    objectsOf(description.getJSONObject("model").getJSONArray("forms"))
        .firstOrNull { it.getString("format") in FORMATS }?.getString("file")
        ?: throw IllegalArgumentException("this module runs ${FORMATS.joinToString(" and ")}, and the bundle has none")

/** The pixels of a bitmap, on white where it is transparent. */
fun imageOf(bitmap: Bitmap): Image {
    val colours = IntArray(bitmap.width * bitmap.height)
    bitmap.getPixels(colours, 0, bitmap.width, 0, 0, bitmap.width, bitmap.height)
    return imageOf(colours, bitmap.width, bitmap.height)
}

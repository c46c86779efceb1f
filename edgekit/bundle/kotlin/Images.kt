// Images to a model's input, by the steps of bundle.json. Resizing is Pillow's, in integers of 8 bits: the same pixels.

package edgekit.model

import kotlin.math.PI
import kotlin.math.abs
import kotlin.math.cos
import kotlin.math.max
import kotlin.math.min
import kotlin.math.sin
import org.json.JSONArray
import org.json.JSONObject

/** Pixels row by row, 8 bits a channel: 3 channels (RGB) or 1. */
class Image(val width: Int, val height: Int, val channels: Int, val data: ByteArray) {
    init {
        val sound = width > 0 && height > 0 && (channels == 1 || channels == 3)
        require(sound && data.size.toLong() == width.toLong() * height * channels) {
            "${data.size} bytes for $width x $height pixels of $channels channels; 1 (grey) or 3 (RGB), a byte each"
        }
    }

    internal fun at(place: Int): Int = data[place].toInt() and 0xFF
}

/** Pixels of colours as Android has them, alpha, red, green and blue of 8 bits, on white where they are transparent. */
fun imageOf(colours: IntArray, width: Int, height: Int): Image {
    val data = ByteArray(colours.size * 3)
    for ((pixel, colour) in colours.withIndex()) {
        val alpha = colour ushr 24
        for (channel in 0 until 3) {
            val value = (colour shr (16 - 8 * channel)) and 0xFF
            data[pixel * 3 + channel] = ((value * alpha + 255 * (255 - alpha) + 127) / 255).toByte()
        }
    }
    return Image(width, height, 3, data)
}

private const val PRECISION_BITS = 22 // 32 - 8 - 2, of Pillow's Resample.c

private class Filter(val support: Double, val weight: (Double) -> Double)

private val FILTERS = mapOf(
    "box" to Filter(0.5) { if (it > -0.5 && it <= 0.5) 1.0 else 0.0 },
    "bilinear" to Filter(1.0) { max(0.0, 1 - abs(it)) },
    "hamming" to Filter(1.0, ::hamming),
    "bicubic" to Filter(2.0, ::bicubic),
    "lanczos" to Filter(3.0) { if (it >= -3 && it < 3) sinc(it) * sinc(it / 3) else 0.0 },
)

/** The input of one image, with a batch of one. */
internal fun prepareImage(raw: Image, channels: Int, steps: JSONArray): Values {
    var image = withChannels(raw, channels)
    var values: FloatArray? = null
    var shape = longArrayOf()
    for (step in objectsOf(steps)) {
        when (val op = step.getString("op")) {
            "resize" -> image = resize(image, step.getInt("width"), step.getInt("height"), step.getString("resample"))
            "resize_shorter" -> image = resizeShorter(image, step)
            "crop" -> image = crop(image, step)
            else -> {
                val now = values ?: FloatArray(image.data.size) { image.at(it).toFloat() }
                values = when (op) {
                    "scale" -> scaled(now, step.getDouble("factor").toFloat())
                    "normalize" -> normalized(now, channels, step)
                    "layout" -> arranged(now, image, step.getString("order"))
                    else -> throw IllegalArgumentException("the step \"$op\" is unknown")
                }
                val (height, width) = image.height.toLong() to image.width.toLong()
                shape = when (step.optString("order")) {
                    "NCHW" -> longArrayOf(1, channels.toLong(), height, width)
                    else -> longArrayOf(1, height, width, channels.toLong())
                }
            }
        }
    }
    return Values.Floats(values!!, shape)
}

/** RGB or grey, as the model takes it; grey as Pillow makes it. */
private fun withChannels(raw: Image, channels: Int): Image {
    if (raw.channels == channels) return raw
    val data = ByteArray(raw.width * raw.height * channels)
    for (pixel in 0 until raw.width * raw.height) {
        if (channels == 3) {
            data.fill(raw.data[pixel], pixel * 3, pixel * 3 + 3)
        } else {
            val (red, green, blue) = List(3) { raw.at(pixel * 3 + it) }
            data[pixel] = ((19595 * red + 38470 * green + 7471 * blue + 0x8000) shr 16).toByte()
        }
    }
    return Image(raw.width, raw.height, channels, data)
}

private fun resizeShorter(image: Image, step: JSONObject): Image {
    val short = min(image.width, image.height)
    val width = max(step.getInt("size") * image.width / short, step.getInt("least_width"))
    val height = max(step.getInt("size") * image.height / short, step.getInt("least_height"))
    return resize(image, width, height, step.getString("resample"))
}

/** The centre; what lies outside of the image is black. */
private fun crop(image: Image, step: JSONObject): Image {
    val width = step.getInt("width")
    val height = step.getInt("height")
    val down = step.getString("rounding") == "down"
    fun place(rest: Int): Int = if (down) Math.floorDiv(rest, 2) else halfToEven(rest)
    val left = place(image.width - width)
    val top = place(image.height - height)
    val data = ByteArray(width * height * image.channels)
    val begin = max(0, -left)
    val end = min(width, image.width - left)
    for (y in max(0, -top) until min(height, image.height - top)) {
        val from = ((y + top) * image.width + left + begin) * image.channels
        image.data.copyInto(data, (y * width + begin) * image.channels, from, from + (end - begin) * image.channels)
    }
    return Image(width, height, image.channels, data)
}

private fun halfToEven(rest: Int): Int {
    val half = Math.floorDiv(rest, 2)
    return if (Math.floorMod(rest, 2) == 1 && Math.floorMod(half, 2) == 1) half + 1 else half
}

private fun scaled(values: FloatArray, factor: Float): FloatArray = FloatArray(values.size) { values[it] * factor }

private fun normalized(values: FloatArray, channels: Int, step: JSONObject): FloatArray {
    val mean = step.getJSONArray("mean")
    val std = step.getJSONArray("std")
    val means = FloatArray(channels) { mean.getDouble(if (mean.length() == 1) 0 else it).toFloat() }
    val stds = FloatArray(channels) { std.getDouble(if (std.length() == 1) 0 else it).toFloat() }
    return FloatArray(values.size) { (values[it] - means[it % channels]) / stds[it % channels] }
}

private fun arranged(values: FloatArray, image: Image, order: String): FloatArray {
    if (order == "NHWC") return values
    val (size, channels) = image.width * image.height to image.channels
    return FloatArray(values.size) { values[it % size * channels + it / size] }
}

private fun resize(image: Image, width: Int, height: Int, resample: String): Image {
    if (image.width == width && image.height == height) return image
    if (resample == "nearest") return resizeNearest(image, width, height)
    fun down(one: Image): Image = transposed(resizeRows(transposed(one), height, resample))
    val less = image.height - height
    val first = if (less > 0 && less > 2 * (image.width - width)) down(image) else image // as Pillow 13 chooses
    val across = if (first.width == width) first else resizeRows(first, width, resample)
    return if (across.height == height) across else down(across)
}

private fun resizeNearest(image: Image, width: Int, height: Int): Image {
    val columns = nearest(image.width, width)
    val rows = nearest(image.height, height)
    val channels = image.channels
    val data = ByteArray(width * height * channels)
    for (y in 0 until height) {
        for (x in 0 until width) {
            val from = (rows[y] * image.width + columns[x]) * channels
            image.data.copyInto(data, (y * width + x) * channels, from, from + channels)
        }
    }
    return Image(width, height, channels, data)
}

/** Places are added up, not multiplied, as Pillow does it. */
private fun nearest(size: Int, wanted: Int): IntArray {
    val scale = size.toDouble() / wanted
    var place = scale * 0.5
    return IntArray(wanted) { place.toInt().also { place += scale } }
}

private class Weights(val first: Int, val weights: IntArray)

/** For each new pixel the old ones that it covers, with weights of 22 bits: `precompute_coeffs` of Pillow. */
private fun weightsFor(size: Int, wanted: Int, resample: String): List<Weights> {
    val filter = FILTERS[resample] ?: throw IllegalArgumentException("the filter \"$resample\" is unknown")
    val scale = size.toDouble() / wanted
    val stretch = max(scale, 1.0)
    val support = filter.support * stretch
    return List(wanted) { place ->
        val center = (place + 0.5) * scale
        val first = max(0, (center - support + 0.5).toInt())
        val last = min(size, (center + support + 0.5).toInt())
        val inverse = 1 / stretch
        val exact = DoubleArray(last - first) { filter.weight((it + first - center + 0.5) * inverse) }
        var sum = 0.0
        for (weight in exact) sum += weight
        val weights = IntArray(exact.size) {
            val share = (if (sum == 0.0) exact[it] else exact[it] / sum) * (1 shl PRECISION_BITS)
            (if (share < 0) share - 0.5 else share + 0.5).toInt()
        }
        Weights(first, weights)
    }
}

private fun resizeRows(image: Image, width: Int, resample: String): Image {
    val channels = image.channels
    val data = ByteArray(width * image.height * channels)
    val all = weightsFor(image.width, width, resample)
    for (y in 0 until image.height) {
        for (x in 0 until width) {
            for (channel in 0 until channels) {
                var sum = 1 shl (PRECISION_BITS - 1)
                var from = (y * image.width + all[x].first) * channels + channel
                for (weight in all[x].weights) {
                    sum += image.at(from) * weight
                    from += channels
                }
                data[(y * width + x) * channels + channel] = (sum shr PRECISION_BITS).coerceIn(0, 255).toByte()
            }
        }
    }
    return Image(width, image.height, channels, data)
}

private fun transposed(image: Image): Image {
    val channels = image.channels
    val data = ByteArray(image.data.size)
    for (y in 0 until image.height) {
        for (x in 0 until image.width) {
            val from = (y * image.width + x) * channels
            image.data.copyInto(data, (x * image.height + y) * channels, from, from + channels)
        }
    }
    return Image(image.height, image.width, channels, data)
}

private fun sinc(x: Double): Double = if (x == 0.0) 1.0 else sin(x * PI) / (x * PI)

private fun hamming(x: Double): Double {
    val distance = abs(x)
    if (distance == 0.0) return 1.0
    return if (distance >= 1) 0.0 else sinc(distance) * (0.54 + 0.46 * cos(distance * PI))
}

private fun bicubic(x: Double): Double {
    val a = -0.5
    val d = abs(x)
    if (d < 1) return ((a + 2) * d - (a + 3)) * d * d + 1
    return if (d < 2) (((d - 5) * d + 8) * d - 4) * a else 0.0
}

// Text as a tokenizer wants it, by the steps of compiled.json; every Unicode fact is in its tables.
// A port of edgekit's reference/normalizer.py, step by step.

package edgekit.model

import org.json.JSONArray
import org.json.JSONObject

internal typealias Change = (String) -> String

// Hangul syllables by arithmetic: the Unicode Standard, section 3.12.
private const val SYLLABLES = 0xAC00
private const val LEADING = 0x1100
private const val VOWELS = 0x1161
private const val TRAILING = 0x11A7
private const val VOWEL_COUNT = 21
private const val TRAILING_COUNT = 28
private const val SYLLABLE_COUNT = 11172
private const val LEADING_COUNT = 19
private const val CLUSTER_BYTES = 6 // SentencePiece's map is asked for whole clusters that are shorter than this
private val JAMO = listOf(
    Triple("L", 0x1100, 0x115F), Triple("V", 0x1160, 0x11A7), Triple("T", 0x11A8, 0x11FF),
    Triple("L", 0xA960, 0xA97C), Triple("V", 0xD7B0, 0xD7C6), Triple("T", 0xD7CB, 0xD7FB),
)
private val JOINED = setOf("L L", "L V", "L LV", "L LVT", "LV V", "V V", "LV T", "V T", "LVT T", "T T")

/** Runs of code points, sorted, each with the values behind its first and last. */
internal class Table(private val entries: JSONArray) {
    private val firsts = IntArray(entries.length()) { entries.getJSONArray(it).getInt(0) }
    private val lasts = IntArray(entries.length()) { entries.getJSONArray(it).getInt(1) }

    operator fun contains(code: Int): Boolean = place(code) >= 0

    fun number(code: Int): Int? = place(code).let { if (it < 0) null else entries.getJSONArray(it).getInt(2) }

    fun text(code: Int): String? = place(code).let { if (it < 0) null else entries.getJSONArray(it).getString(2) }

    private fun place(code: Int): Int {
        var low = 0
        var high = firsts.size
        while (low < high) {
            val middle = (low + high) / 2
            if (firsts[middle] <= code) low = middle + 1 else high = middle
        }
        return if (low > 0 && code <= lasts[low - 1]) low - 1 else -1
    }
}

internal fun codesOf(text: String): IntArray = text.codePoints().toArray()

internal fun textOf(codes: IntArray, start: Int, stop: Int): String = String(codes, start, stop - start)

internal fun objectsOf(array: JSONArray): List<JSONObject> = List(array.length()) { array.getJSONObject(it) }

internal fun makeNormalizer(steps: JSONArray): Change {
    val changes = objectsOf(steps).map(::makeStep)
    return { text -> changes.fold(text) { result, change -> change(result) } }
}

private fun makeStep(step: JSONObject): Change = when (val op = step.getString("op")) {
    "map" -> makeMap(step)
    "reorder" -> makeReorder(Table(step.getJSONArray("classes")))
    "compose" -> makeCompose(step)
    "charsmap" -> makeCharsmap(step)
    "replace" -> { text -> text.replace(step.getString("old"), step.getString("new")) }
    "squeeze" -> makeSqueeze(step.getInt("least"), step.getString("new"))
    "strip" -> makeStrip(step)
    "prepend" -> { text -> if (text.isEmpty()) text else step.getString("text") + text }
    else -> throw IllegalArgumentException("the tokenizer has the step \"$op\", which is unknown")
}

/** Each character by itself: replaced, surrounded by spaces, a Hangul syllable taken apart, or kept. */
private fun makeMap(step: JSONObject): Change {
    val replaced = Table(step.getJSONArray("replace"))
    val surrounded = Table(step.getJSONArray("surround"))
    val hangul = step.getBoolean("hangul")
    return { text ->
        val found = StringBuilder()
        for (code in codesOf(text)) {
            val new = replaced.text(code)
            when {
                new != null -> found.append(new)
                code in surrounded -> found.append(' ').appendCodePoint(code).append(' ')
                hangul && code - SYLLABLES in 0 until SYLLABLE_COUNT -> appendApart(found, code)
                else -> found.appendCodePoint(code)
            }
        }
        found.toString()
    }
}

private fun appendApart(found: StringBuilder, code: Int) {
    val place = code - SYLLABLES
    val rest = place / TRAILING_COUNT
    found.appendCodePoint(LEADING + rest / VOWEL_COUNT).appendCodePoint(VOWELS + rest % VOWEL_COUNT)
    if (place % TRAILING_COUNT > 0) found.appendCodePoint(TRAILING + place % TRAILING_COUNT)
}

/** Marks behind a letter in the order of their combining classes, those of one class as they were. */
private fun makeReorder(classes: Table): Change = { text ->
    val found = StringBuilder()
    val run = mutableListOf<Pair<Int, Int>>()
    fun flush() {
        for ((_, code) in run.sortedBy { it.first }) found.appendCodePoint(code)
        run.clear()
    }
    for (code in codesOf(text)) {
        val kind = classes.number(code)
        if (kind == null) {
            flush()
            found.appendCodePoint(code)
        } else {
            run.add(kind to code)
        }
    }
    flush()
    found.toString()
}

/** Letters and the marks behind them joined where there is a character for both; Hangul, too. */
private fun makeCompose(step: JSONObject): Change {
    val classes = Table(step.getJSONArray("classes"))
    val pairs = step.getJSONArray("pairs")
    val wholes = HashMap<Long, Int>()
    for (index in 0 until pairs.length()) {
        val (one, other, whole) = List(3) { pairs.getJSONArray(index).getInt(it) }
        wholes[pairKey(one, other)] = whole
    }
    return { text ->
        val found = mutableListOf<Int>()
        var starter = -1 // place of the letter that marks are joined to
        var last = -1 // class of the character before this one; -1 where that is the letter
        for (code in codesOf(text)) {
            val kind = classes.number(code) ?: 0
            val whole = if (starter >= 0 && (last < 0 || last < kind)) joined(found[starter], code, wholes) else null
            if (whole != null) {
                found[starter] = whole
                continue
            }
            if (kind == 0) {
                starter = found.size
                last = -1
            } else {
                last = kind
            }
            found.add(code)
        }
        textOf(found.toIntArray(), 0, found.size)
    }
}

private fun pairKey(one: Int, other: Int): Long = (one.toLong() shl 32) or other.toLong()

private fun joined(one: Int, other: Int, wholes: Map<Long, Int>): Int? {
    val leading = one - LEADING
    val vowel = other - VOWELS
    if (leading in 0 until LEADING_COUNT && vowel in 0 until VOWEL_COUNT) {
        return SYLLABLES + (leading * VOWEL_COUNT + vowel) * TRAILING_COUNT
    }
    val syllable = one - SYLLABLES
    val trailing = other - TRAILING
    val open = syllable in 0 until SYLLABLE_COUNT && syllable % TRAILING_COUNT == 0
    if (open && trailing in 1 until TRAILING_COUNT) return one + trailing
    return wholes[pairKey(one, other)]
}

/** SentencePiece's map of strings, asked for each short cluster of characters, then for each character. */
private fun makeCharsmap(step: JSONObject): Change {
    val map = step.getJSONArray("map")
    val strings = HashMap<String, String>()
    for (index in 0 until map.length()) {
        val entry = map.getJSONArray(index)
        strings[entry.getString(0)] = entry.getString(1)
    }
    val longest = strings.keys.maxOfOrNull { it.codePointCount(0, it.length) } ?: 0
    val extend = Table(step.getJSONArray("extend"))
    val prepend = Table(step.getJSONArray("prepend"))
    val control = Table(step.getJSONArray("control"))
    fun lookup(codes: IntArray, start: Int, stop: Int): String? {
        for (end in start + 1..minOf(stop, start + longest)) strings[textOf(codes, start, end)]?.let { return it }
        return null
    }
    fun breaks(before: Int, after: Int): Boolean = when {
        before == 0x0D && after == 0x0A -> false
        before in control || after in control -> true
        else -> !(after in extend || before in prepend || "${jamoKind(before)} ${jamoKind(after)}" in JOINED)
    }
    return { text ->
        val codes = codesOf(text)
        val found = StringBuilder()
        var start = 0
        for (stop in 1..codes.size) {
            if (stop < codes.size && !breaks(codes[stop - 1], codes[stop])) continue
            val short = textOf(codes, start, stop).toByteArray().size < CLUSTER_BYTES
            val whole = if (short) lookup(codes, start, stop) else null
            if (whole != null) found.append(whole)
            else for (place in start until stop) {
                val one = lookup(codes, place, place + 1)
                if (one != null) found.append(one) else found.appendCodePoint(codes[place])
            }
            start = stop
        }
        found.toString()
    }
}

private fun jamoKind(code: Int): String {
    val place = code - SYLLABLES
    if (place in 0 until SYLLABLE_COUNT) return if (place % TRAILING_COUNT == 0) "LV" else "LVT"
    return JAMO.firstOrNull { (_, first, last) -> code in first..last }?.first ?: ""
}

private fun makeSqueeze(least: Int, new: String): Change {
    val spaces = Regex(" +")
    return { text -> spaces.replace(text) { run -> if (run.value.length >= least) new else run.value } }
}

private fun makeStrip(step: JSONObject): Change {
    val space = Table(step.getJSONArray("space"))
    val left = step.getBoolean("left")
    val right = step.getBoolean("right")
    return { text ->
        val codes = codesOf(text)
        var start = 0
        var stop = codes.size
        while (left && start < stop && codes[start] in space) start++
        while (right && stop > start && codes[stop - 1] in space) stop--
        textOf(codes, start, stop)
    }
}

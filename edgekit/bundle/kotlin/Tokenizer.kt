// Texts to token ids, by the compiled tokenizer of a bundle (tokenizer/compiled.json).
// A port of edgekit's reference/tokenizer.py, function by function; it asks the language for no Unicode.
//
//   text -> parts between added tokens -> normalize -> split into words -> pieces of each word -> frame -> truncate

package edgekit.model

import org.json.JSONArray
import org.json.JSONObject

private const val TOKENIZER_SCHEMA = "edgekit.tokenizer/1"
private const val MOST_WORDS = 10_000 // that are remembered, as many as the library tokenizers remembers by default
private val CONTRACTIONS = listOf("'s", "'t", "'re", "'ve", "'m", "'ll", "'d") // of GPT-2's pattern, in its order

/** Ids of a text or of two, and to which of them each belongs. */
class Encoded internal constructor(val ids: List<Int>, val segments: List<Int>)

/** A compiled tokenizer; not for several threads at once. */
class Tokenizer(program: JSONObject) {
    private val maxLength = program.getInt("max_length")
    private val frame = program.getJSONObject("frame")
    private val normalize: Change
    private val splits = objectsOf(program.getJSONArray("split"))
    private val added = objectsOf(program.getJSONArray("added")).map(::Added).filter { it.content.isNotEmpty() }
    private val classes = HashMap<String, Table>()
    private val pieces: Pieces
    private val words = HashMap<String, List<Int>>() // what the model made of words before
    private val bytes = byteCharacters()

    init {
        val schema = program.getString("schema")
        require(schema == TOKENIZER_SCHEMA) { "the tokenizer has the schema $schema; this reads $TOKENIZER_SCHEMA" }
        normalize = makeNormalizer(program.getJSONArray("normalize"))
        pieces = makePieces(program.getJSONObject("model"))
        val runs = program.getJSONObject("classes")
        for (name in runs.keys()) classes[name as String] = Table(runs.getJSONArray(name))
    }

    /** Ids and segments of a text or of two, framed and cut to the longest length. */
    fun encode(text: String, pair: String? = null): Encoded {
        val texts = listOfNotNull(text, pair).map(::ids)
        val parts = objectsOf(frame.getJSONArray(if (pair == null) "single" else "pair"))
        val around = parts.sumOf { if (it.has("ids")) it.getJSONArray("ids").length() else 0 }
        val lengths = shares(texts.map { it.size }, maxOf(0, maxLength - around))
        val found = mutableListOf<Int>()
        val segments = mutableListOf<Int>()
        for (part in parts) {
            val ids = if (part.has("ids")) {
                numbersOf(part.getJSONArray("ids"))
            } else {
                part.getInt("text").let { texts[it].take(lengths[it]) }
            }
            found += ids
            repeat(ids.size) { segments += part.getInt("segment") }
        }
        return Encoded(found, segments)
    }

    /** Ids of a text, without its frame, uncut. */
    fun ids(text: String): List<Int> {
        val found = mutableListOf<Int>()
        for (outer in parts(text, false)) {
            if (outer.id != null) {
                found += outer.id
                continue
            }
            for (inner in parts(normalize(outer.text), true)) {
                if (inner.id != null) found += inner.id
                else for (word in split(inner.text, outer.place == 0 && inner.place == 0)) {
                    found += remembered(word)
                }
            }
        }
        return found
    }

    private fun remembered(word: String): List<Int> {
        words[word]?.let { return it }
        if (words.size >= MOST_WORDS) words.clear()
        return pieces(word).also { words[word] = it }
    }

    private class Part(val place: Int, val text: String, val id: Int? = null)

    /** Texts between added tokens and the ids of these: everywhere the longest, from left to right. */
    private fun parts(text: String, normalized: Boolean): List<Part> {
        val known = added.filter { it.normalized == normalized }
        val found = mutableListOf<Part>()
        var done = 0
        var start = 0
        while (known.isNotEmpty() && start < text.length) {
            val token = known.filter { text.startsWith(it.content, start) }.maxByOrNull { it.content.length }
            if (token == null) {
                start++
                continue
            }
            var stop = start + token.content.length
            if (token.singleWord && (isIn("word", before(text, start)) || isIn("word", after(text, stop)))) {
                start = stop
                continue
            }
            var begin = start
            while (token.lstrip && begin > done && isIn("space", before(text, begin))) {
                begin -= Character.charCount(before(text, begin))
            }
            while (token.rstrip && isIn("space", after(text, stop))) stop += Character.charCount(after(text, stop))
            if (begin > done) found += Part(done, text.substring(done, begin))
            found += Part(begin, "", token.id)
            done = stop
            start = stop
        }
        if (done < text.length) found += Part(done, text.substring(done))
        return found
    }

    private fun isIn(name: String, code: Int): Boolean = code >= 0 && classes[name]?.contains(code) == true

    private fun split(text: String, first: Boolean): List<String> =
        splits
            .fold(listOf(text)) { words, split -> words.flatMap { part(split, it, first) }.filter(String::isNotEmpty) }
            .filter(String::isNotEmpty)

    private fun part(split: JSONObject, text: String, first: Boolean) = when (val op = split.getString("op")) {
        "space" -> runs(text, drop = "space")
        "isolate" -> runs(text, alone = split.getString("class"))
        "runs" -> runs(text, drop = "space", group = "word")
        "metaspace" -> metaspace(text, split, first)
        "gpt2" -> {
            val prefixed = if (split.getBoolean("prefix_space") && !text.startsWith(" ")) " $text" else text
            val words = if (split.getBoolean("pattern")) gpt2(prefixed) else listOf(prefixed)
            words.map { word -> word.toByteArray().joinToString("") { bytes[it.toInt() and 0xFF] } }
        }
        else -> throw IllegalArgumentException("the tokenizer splits by \"$op\", which is unknown")
    }

    /** Runs of characters: `drop` parts them and goes, `alone` stands alone, `group` is a run of its own. */
    private fun runs(text: String, drop: String? = null, alone: String? = null, group: String? = null): List<String> {
        val words = mutableListOf<StringBuilder>()
        var last = -1
        for (code in codesOf(text)) {
            if (drop != null && isIn(drop, code)) {
                last = -1
                continue
            }
            var kind = if (alone != null && isIn(alone, code)) 2 else 1
            if (group != null && isIn(group, code)) kind = 0
            if (kind != last || kind == 2) words += StringBuilder()
            words.last().appendCodePoint(code)
            last = kind
        }
        return words.map { it.toString() }
    }

    /** GPT-2's pattern: contractions, then letters, numbers or others with one space before, then spaces. */
    private fun gpt2(text: String): List<String> {
        val codes = codesOf(text)
        val kinds = codes.map { code -> listOf("space", "letter", "number").firstOrNull { isIn(it, code) } }
        val words = mutableListOf<String>()
        var start = 0
        while (start < codes.size) {
            val stop = gpt2End(codes, kinds, start)
            words += textOf(codes, start, stop)
            start = stop
        }
        return words
    }
}

private class Added(entry: JSONObject) {
    val content: String = entry.getString("content")
    val id = entry.getInt("id")
    val normalized = entry.getBoolean("normalized")
    val singleWord = entry.getBoolean("single_word")
    val lstrip = entry.getBoolean("lstrip")
    val rstrip = entry.getBoolean("rstrip")
}

private fun gpt2End(codes: IntArray, kinds: List<String?>, start: Int): Int {
    val next = textOf(codes, start, minOf(codes.size, start + 3))
    CONTRACTIONS.firstOrNull { next.startsWith(it) }?.let { return start + it.length }
    val begin = start + if (codes[start] == ' '.code) 1 else 0
    if (begin < codes.size && kinds[begin] != "space") {
        var stop = begin
        while (stop < codes.size && kinds[stop] == kinds[begin]) stop++
        return stop
    }
    var stop = start
    while (stop < codes.size && kinds[stop] == "space") stop++
    return if (stop < codes.size && stop - 1 > start) stop - 1 else stop
}

/** The character that ends at a place; -1 at the start. */
private fun before(text: String, place: Int): Int = if (place <= 0) -1 else text.codePointBefore(place)

/** The character that begins at a place; -1 at the end. */
private fun after(text: String, place: Int): Int = if (place < text.length) text.codePointAt(place) else -1

internal fun numbersOf(array: JSONArray): List<Int> = List(array.length()) { array.getInt(it) }

/** Spaces become a visible mark, which begins a word. */
private fun metaspace(text: String, split: JSONObject, first: Boolean): List<String> {
    val mark = split.getString("mark")
    var marked = text.replace(" ", mark)
    val prepend = split.getString("prepend")
    val wanted = prepend == "always" || (prepend == "first" && first)
    if (wanted && !marked.startsWith(mark)) marked = mark + marked
    if (!split.getBoolean("split")) return listOf(marked)
    return marked.split(mark).mapIndexed { place, word -> if (place > 0) mark + word else word }
}

/** How many tokens of each text stay, the longer one cut first: as the library tokenizers cuts them. */
private fun shares(lengths: List<Int>, room: Int): List<Int> {
    if (lengths.size == 1) return listOf(minOf(lengths[0], room))
    if (lengths.sum() <= room) return lengths
    var short = lengths.min()
    var long = if (short > room) short else maxOf(short, room - short)
    if (short + long > room) {
        short = room / 2
        long = short + room % 2
    }
    return if (lengths[0] <= lengths[1]) listOf(short, long) else listOf(long, short)
}

/** GPT-2's printable character of each byte: itself where it is printable, else one from U+0100 on, in order. */
private fun byteCharacters(): List<String> {
    var next = 0x100
    return List(256) { byte ->
        val printable = byte in 0x21..0x7E || byte in 0xA1..0xAC || byte >= 0xAE
        (if (printable) byte else next++).toChar().toString()
    }
}

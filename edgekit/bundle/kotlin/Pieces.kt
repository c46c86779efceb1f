// Pieces of words: WordPiece, whole words, BPE and Unigram, as edgekit's reference/tokenizer.py has them.

package edgekit.model

import org.json.JSONArray
import org.json.JSONObject

private const val UNKNOWN_PENALTY = 10.0 // K_UNK_PENALTY of SentencePiece

internal typealias Pieces = (String) -> List<Int>

internal fun makePieces(model: JSONObject): Pieces {
    val vocabulary = numbered(model.getJSONArray("vocab"))
    return when (val kind = model.getString("type")) {
        "wordpiece" -> { word -> wordPiece(word, vocabulary, model) }
        "wordlevel" -> { word -> listOf(vocabulary[word] ?: model.getInt("unknown")) }
        "bpe" -> Bpe(vocabulary, model)::invoke
        "unigram" -> Unigram(vocabulary, model)::invoke
        else -> throw IllegalArgumentException("the tokenizer is of the kind \"$kind\", unknown here")
    }
}

private fun numbered(vocabulary: JSONArray): Map<String, Int> {
    val found = HashMap<String, Int>(vocabulary.length() * 2)
    for (number in 0 until vocabulary.length()) {
        if (!vocabulary.isNull(number)) found[vocabulary.getString(number)] = number
    }
    return found
}

/** The longest piece that a word begins with, then the longest of the rest; one unknown where that fails. */
private fun wordPiece(word: String, vocabulary: Map<String, Int>, model: JSONObject): List<Int> {
    val codes = codesOf(word)
    val unknown = listOf(model.getInt("unknown"))
    if (codes.size > model.getInt("longest_word")) return unknown
    val found = mutableListOf<Int>()
    var start = 0
    while (start < codes.size) {
        val prefix = if (start > 0) model.getString("prefix") else ""
        val stop = (codes.size downTo start + 1).firstOrNull { prefix + textOf(codes, start, it) in vocabulary }
        if (stop == null) return unknown
        found += vocabulary.getValue(prefix + textOf(codes, start, stop))
        start = stop
    }
    return found
}

/** Characters, merged pair by pair: the pair that was learned first, and the leftmost of those. */
private class Bpe(private val vocabulary: Map<String, Int>, model: JSONObject) {
    private val ranks = HashMap<Pair<String, String>, Int>()
    private val unknown: Int? = if (model.isNull("unknown")) null else model.getInt("unknown")
    private val fuse = model.getBoolean("fuse_unknown")
    private val byteFallback = model.getBoolean("byte_fallback")
    private val prefix = model.getString("prefix")
    private val suffix = model.getString("suffix")
    private val ignoreMerges = model.getBoolean("ignore_merges")

    init {
        val merges = model.getJSONArray("merges")
        for (rank in 0 until merges.length()) {
            val pair = merges.getJSONArray(rank)
            ranks[pair.getString(0) to pair.getString(1)] = rank
        }
    }

    operator fun invoke(word: String): List<Int> {
        if (ignoreMerges) vocabulary[word]?.let { return listOf(it) }
        val pieces = characters(word)
        while (true) {
            val place = (0 until pieces.size - 1)
                .filter { ranks.containsKey(pieces[it] to pieces[it + 1]) }
                .minByOrNull { ranks.getValue(pieces[it] to pieces[it + 1]) } ?: break
            pieces[place] += pieces.removeAt(place + 1).removePrefix(prefix)
        }
        return pieces.mapNotNull { vocabulary[it] ?: unknown }
    }

    private fun characters(word: String): MutableList<String> {
        val codes = codesOf(word)
        val found = mutableListOf<String>()
        var missed = false
        for (place in codes.indices) {
            val end = if (place == codes.size - 1) suffix else ""
            val piece = (if (place > 0) prefix else "") + textOf(codes, place, place + 1) + end
            val known = piece in vocabulary
            val coded = if (known || !byteFallback) emptyList() else byteNames(piece)
            if (coded.isNotEmpty() && coded.all { it in vocabulary }) {
                found += coded
                missed = false
                continue
            }
            if (!known && unknown == null) continue // it is left out, and what is beside it becomes neighbours
            if (known || !(missed && fuse)) found += piece
            missed = !known
        }
        return found
    }
}

/** The most likely division into pieces (Viterbi); unknown characters side by side are one unknown token. */
private class Unigram(private val vocabulary: Map<String, Int>, model: JSONObject) {
    private val scores = model.getJSONArray("scores").let { all -> DoubleArray(all.length()) { all.getDouble(it) } }
    private val unknown = model.getInt("unknown")
    private val byteFallback = model.getBoolean("byte_fallback")
    private val longest = vocabulary.keys.maxOf { it.codePointCount(0, it.length) }
    private val unknownScore = scores.min() - UNKNOWN_PENALTY

    private class Node(val score: Double, val start: Int, val number: Int)

    operator fun invoke(word: String): List<Int> {
        val codes = codesOf(word)
        val best = arrayOfNulls<Node>(codes.size + 1)
        best[0] = Node(0.0, 0, -1)
        fun offer(place: Int, node: Node) {
            val old = best[place]
            if (old == null || node.score > old.score) best[place] = node
        }
        for (start in codes.indices) {
            val here = best[start]!!.score
            var single = false
            for (stop in start + 1..minOf(codes.size, start + longest)) {
                val number = vocabulary[textOf(codes, start, stop)] ?: continue
                offer(stop, Node(here + scores[number], start, number))
                single = single || stop == start + 1
            }
            if (!single) offer(start + 1, Node(here + unknownScore, start, unknown))
        }
        val pieces = mutableListOf<String>()
        var fused = false
        var stop = codes.size
        while (stop > 0) {
            val node = best[stop]!!
            val piece = textOf(codes, node.start, stop)
            val missed = node.number == unknown
            if (missed && fused) pieces[pieces.size - 1] = piece + pieces.last() else pieces += piece
            fused = missed
            stop = node.start
        }
        return pieces.asReversed().flatMap(::numbers)
    }

    private fun numbers(piece: String): List<Int> {
        vocabulary[piece]?.let { return listOf(it) }
        val coded = if (byteFallback) byteNames(piece).map { vocabulary[it] } else listOf(null)
        return if (coded.all { it != null }) coded.filterNotNull() else listOf(unknown)
    }
}

private fun byteNames(piece: String): List<String> = piece.toByteArray().map { "<0x%02X>".format(it.toInt() and 0xFF) }

/// Pieces of words: WordPiece, whole words, BPE and Unigram, as edgekit's reference/tokenizer.py has them.
library;

import 'dart:convert';
import 'dart:math';

const _unknownPenalty = 10.0; // K_UNK_PENALTY of SentencePiece

typedef Pieces = List<int> Function(String word);
typedef _Vocabulary = Map<String, int>;

Pieces makePieces(Map<String, dynamic> model) {
  final pieces = model['vocab'] as List;
  final vocabulary = <String, int>{
    for (final (number, piece) in pieces.indexed)
      if (piece != null) piece as String: number,
  };
  return switch (model['type']) {
    'wordpiece' => (word) => _wordPiece(word, vocabulary, model),
    'wordlevel' => (word) => [vocabulary[word] ?? model['unknown'] as int],
    'bpe' => _Bpe(vocabulary, model).call,
    'unigram' => _Unigram(vocabulary, model).call,
    final kind => throw FormatException('the tokenizer is of the kind "$kind", unknown here'),
  };
}

/// The longest piece that a word begins with, then the longest of the rest; one unknown where that fails.
List<int> _wordPiece(String word, _Vocabulary vocabulary, Map<String, dynamic> model) {
  final codes = word.runes.toList();
  final unknown = [model['unknown'] as int];
  if (codes.length > (model['longest_word'] as int)) return unknown;
  final found = <int>[];
  var start = 0;
  while (start < codes.length) {
    final prefix = start > 0 ? model['prefix'] as String : '';
    int? number;
    var stop = codes.length;
    while (stop > start && number == null) {
      number = vocabulary[prefix + String.fromCharCodes(codes, start, stop)];
      if (number == null) stop--;
    }
    if (number == null) return unknown;
    found.add(number);
    start = stop;
  }
  return found;
}

/// Characters, merged pair by pair: the pair that was learned first, and the leftmost of those.
class _Bpe {
  _Bpe(this._vocabulary, this._model)
      : _ranks = {
          for (final (rank, pair) in (_model['merges'] as List).indexed)
            ((pair as List)[0] as String, pair[1] as String): rank,
        };

  final _Vocabulary _vocabulary;
  final Map<String, dynamic> _model;
  final Map<(String, String), int> _ranks;

  List<int> call(String word) {
    final whole = _vocabulary[word];
    if (_model['ignore_merges'] == true && whole != null) return [whole];
    final pieces = _characters(word);
    final prefix = _model['prefix'] as String;
    while (true) {
      int? best;
      var place = -1;
      for (var index = 0; index + 1 < pieces.length; index++) {
        final rank = _ranks[(pieces[index], pieces[index + 1])];
        if (rank != null && (best == null || rank < best)) {
          best = rank;
          place = index;
        }
      }
      if (best == null) break;
      final other = pieces.removeAt(place + 1);
      pieces[place] += other.startsWith(prefix) ? other.substring(prefix.length) : other;
    }
    final unknown = _model['unknown'] as int?;
    final numbers = [for (final piece in pieces) _vocabulary[piece] ?? unknown];
    return numbers.nonNulls.toList();
  }

  List<String> _characters(String word) {
    final codes = word.runes.toList();
    final found = <String>[];
    var missed = false;
    for (final (place, code) in codes.indexed) {
      final piece = (place > 0 ? _model['prefix'] as String : '') +
          String.fromCharCode(code) +
          (place == codes.length - 1 ? _model['suffix'] as String : '');
      final known = _vocabulary.containsKey(piece);
      final coded = known || _model['byte_fallback'] != true ? const <String>[] : _byteNames(piece);
      if (coded.isNotEmpty && coded.every(_vocabulary.containsKey)) {
        found.addAll(coded);
        missed = false;
        continue;
      }
      if (!known && _model['unknown'] == null) continue; // it is left out, and what is beside it becomes neighbours
      if (known || !(missed && _model['fuse_unknown'] == true)) found.add(piece);
      missed = !known;
    }
    return found;
  }
}

/// The most likely division into pieces (Viterbi); unknown characters side by side are one unknown token.
class _Unigram {
  _Unigram(this._vocabulary, Map<String, dynamic> model)
      : _scores = [for (final score in model['scores'] as List) (score as num).toDouble()],
        _unknown = model['unknown'] as int,
        _byteFallback = model['byte_fallback'] as bool,
        _longest = _vocabulary.keys.fold(0, (most, piece) => max(most, piece.runes.length)) {
    _unknownScore = _scores.reduce(min) - _unknownPenalty;
  }

  final _Vocabulary _vocabulary;
  final List<double> _scores;
  final int _unknown;
  final bool _byteFallback;
  final int _longest;
  late final double _unknownScore;

  List<int> call(String word) {
    final codes = word.runes.toList();
    final best = List<(double, int, int)?>.filled(codes.length + 1, null); // score, start, number
    best[0] = (0, 0, -1);
    void offer(int place, double score, int start, int number) {
      final old = best[place];
      if (old == null || score > old.$1) best[place] = (score, start, number);
    }

    for (var start = 0; start < codes.length; start++) {
      final here = best[start]!.$1;
      var single = false;
      for (var stop = start + 1; stop <= min(codes.length, start + _longest); stop++) {
        final number = _vocabulary[String.fromCharCodes(codes, start, stop)];
        if (number == null) continue;
        offer(stop, here + _scores[number], start, number);
        single = single || stop == start + 1;
      }
      if (!single) offer(start + 1, here + _unknownScore, start, _unknown);
    }
    final pieces = <String>[];
    var fused = false;
    for (var stop = codes.length; stop > 0;) {
      final (_, start, number) = best[stop]!;
      final piece = String.fromCharCodes(codes, start, stop);
      final missed = number == _unknown;
      if (missed && fused) {
        pieces.last = piece + pieces.last;
      } else {
        pieces.add(piece);
      }
      fused = missed;
      stop = start;
    }
    return [for (final piece in pieces.reversed) ..._numbers(piece)];
  }

  List<int> _numbers(String piece) {
    final known = _vocabulary[piece];
    if (known != null) return [known];
    if (!_byteFallback) return [_unknown];
    final coded = [for (final name in _byteNames(piece)) _vocabulary[name]];
    return coded.contains(null) ? [_unknown] : coded.nonNulls.toList();
  }
}

List<String> _byteNames(String piece) =>
    [for (final byte in utf8.encode(piece)) '<0x${byte.toRadixString(16).toUpperCase().padLeft(2, '0')}>'];

/// Texts to token ids, by the compiled tokenizer of a bundle (tokenizer/compiled.json).
/// A port of edgekit's reference/tokenizer.py, function by function; it asks the language for no Unicode.
///
///   text -> parts between added tokens -> normalize -> split into words -> pieces of each word -> frame -> truncate
library;

import 'dart:convert';
import 'dart:math';

import 'normalizer.dart';
import 'pieces.dart';

const tokenizerSchema = 'edgekit.tokenizer/1';
const _mostWords = 10000; // that are remembered, as many as the library tokenizers remembers by default
const _contractions = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d"]; // of GPT-2's pattern, in its order

/// Ids of a text or of two, and to which of them each belongs.
class Encoded {
  const Encoded(this.ids, this.segments);

  final List<int> ids;
  final List<int> segments;
}

class _Added {
  _Added(Map<String, dynamic> entry)
      : content = entry['content'] as String,
        id = entry['id'] as int,
        normalized = entry['normalized'] as bool,
        singleWord = entry['single_word'] as bool,
        lstrip = entry['lstrip'] as bool,
        rstrip = entry['rstrip'] as bool;

  final String content;
  final int id;
  final bool normalized;
  final bool singleWord;
  final bool lstrip;
  final bool rstrip;
}

/// A compiled tokenizer.
class Tokenizer {
  Tokenizer(this._program)
      : _normalize = makeNormalizer(_program['normalize'] as List),
        _pieces = makePieces(_program['model'] as Map<String, dynamic>),
        _added = [for (final entry in _program['added'] as List) _Added(entry as Map<String, dynamic>)],
        _splits = (_program['split'] as List).cast<Map<String, dynamic>>(),
        _classes = (_program['classes'] as Map<String, dynamic>).map((name, runs) => MapEntry(name, Table(runs))) {
    if (_program['schema'] != tokenizerSchema) {
      throw FormatException('the tokenizer has the schema ${_program['schema']}; this reads $tokenizerSchema');
    }
  }

  final Map<String, dynamic> _program;
  final Change _normalize;
  final Pieces _pieces;
  final List<_Added> _added;
  final List<Map<String, dynamic>> _splits;
  final Map<String, Table> _classes;
  final _words = <String, List<int>>{}; // what the model made of words before
  final _bytes = _byteCharacters();

  /// Ids and segments of a text or of two, framed and cut to the longest length.
  Encoded encode(String text, [String? pair]) {
    final texts = [ids(text), if (pair != null) ids(pair)];
    final frame = (_program['frame'][pair == null ? 'single' : 'pair'] as List).cast<Map<String, dynamic>>();
    final around = frame.fold(0, (sum, part) => sum + ((part['ids'] as List?)?.length ?? 0));
    final lengths = _shares([for (final one in texts) one.length], max(0, (_program['max_length'] as int) - around));
    final found = <int>[];
    final segments = <int>[];
    for (final part in frame) {
      final place = part['text'] as int?;
      final added = place == null ? (part['ids'] as List).cast<int>() : texts[place].sublist(0, lengths[place]);
      found.addAll(added);
      segments.addAll(List.filled(added.length, part['segment'] as int));
    }
    return Encoded(found, segments);
  }

  /// Ids of a text, without its frame, uncut.
  List<int> ids(String text) {
    final found = <int>[];
    for (final (place, part, id) in _parts(text, false)) {
      if (id != null) {
        found.add(id);
        continue;
      }
      for (final (innerPlace, inner, innerId) in _parts(_normalize(part), true)) {
        if (innerId != null) {
          found.add(innerId);
          continue;
        }
        for (final word in _split(inner, place == 0 && innerPlace == 0)) {
          found.addAll(_remembered(word));
        }
      }
    }
    return found;
  }

  List<int> _remembered(String word) {
    if (_words.length >= _mostWords) _words.clear();
    return _words.putIfAbsent(word, () => _pieces(word));
  }

  /// Places, texts between added tokens, and the ids of these: everywhere the longest, from left to right.
  List<(int, String, int?)> _parts(String text, bool normalized) {
    final known = [
      for (final token in _added)
        if (token.normalized == normalized && token.content.isNotEmpty) token,
    ];
    final found = <(int, String, int?)>[];
    var done = 0;
    var start = 0;
    while (known.isNotEmpty && start < text.length) {
      _Added? token;
      for (final one in known) {
        if (text.startsWith(one.content, start) && one.content.length > (token?.content.length ?? 0)) token = one;
      }
      if (token == null) {
        start++;
        continue;
      }
      var stop = start + token.content.length;
      if (token.singleWord && (_isIn('word', _before(text, start)) || _isIn('word', _after(text, stop)))) {
        start = stop;
        continue;
      }
      var begin = start;
      while (token.lstrip && begin > done && _isIn('space', _before(text, begin))) {
        begin -= _units(_before(text, begin));
      }
      while (token.rstrip && _isIn('space', _after(text, stop))) {
        stop += _units(_after(text, stop));
      }
      if (begin > done) found.add((done, text.substring(done, begin), null));
      found.add((begin, '', token.id));
      done = start = stop;
    }
    if (done < text.length) found.add((done, text.substring(done), null));
    return found;
  }

  bool _isIn(String name, int code) => code >= 0 && (_classes[name]?.has(code) ?? false);

  List<String> _split(String text, bool first) {
    var words = [text];
    for (final split in _splits) {
      words = [
        for (final word in words)
          for (final part in _apply(split, word, first))
            if (part.isNotEmpty) part,
      ];
    }
    return [
      for (final word in words)
        if (word.isNotEmpty) word,
    ];
  }

  List<String> _apply(Map<String, dynamic> split, String text, bool first) {
    switch (split['op']) {
      case 'space':
        return _runs(text, drop: 'space');
      case 'isolate':
        return _runs(text, alone: split['class'] as String);
      case 'runs':
        return _runs(text, drop: 'space', group: 'word');
      case 'metaspace':
        return _metaspace(text, split, first);
      case 'gpt2':
        final prefixed = split['prefix_space'] == true && !text.startsWith(' ') ? ' $text' : text;
        final words = split['pattern'] == true ? _gpt2(prefixed) : [prefixed];
        return [for (final word in words) utf8.encode(word).map((byte) => _bytes[byte]).join()];
      default:
        throw FormatException('the tokenizer splits by "${split['op']}", which is unknown');
    }
  }

  /// Runs of characters: [drop] parts them and goes, [alone] stands alone, [group] is a run of its own.
  List<String> _runs(String text, {String? drop, String? alone, String? group}) {
    final words = <StringBuffer>[];
    var last = -1;
    for (final code in text.runes) {
      if (drop != null && _isIn(drop, code)) {
        last = -1;
        continue;
      }
      var kind = alone != null && _isIn(alone, code) ? 2 : 1;
      if (group != null && _isIn(group, code)) kind = 0;
      if (kind != last || kind == 2) words.add(StringBuffer());
      words.last.writeCharCode(code);
      last = kind;
    }
    return [for (final word in words) word.toString()];
  }

  /// GPT-2's pattern: contractions, then letters, numbers or others with one space before, then spaces.
  List<String> _gpt2(String text) {
    final codes = text.runes.toList();
    final kinds = [for (final code in codes) _kind(code)];
    final words = <String>[];
    for (var start = 0, stop = 0; start < codes.length; start = stop) {
      stop = _gpt2End(codes, kinds, start);
      words.add(String.fromCharCodes(codes, start, stop));
    }
    return words;
  }

  String _kind(int code) {
    for (final name in const ['space', 'letter', 'number']) {
      if (_isIn(name, code)) return name;
    }
    return 'other';
  }
}

int _gpt2End(List<int> codes, List<String> kinds, int start) {
  final next = String.fromCharCodes(codes, start, min(codes.length, start + 3));
  for (final contraction in _contractions) {
    if (next.startsWith(contraction)) return start + contraction.length;
  }
  final begin = start + (codes[start] == 0x20 ? 1 : 0);
  if (begin < codes.length && kinds[begin] != 'space') {
    var stop = begin;
    while (stop < codes.length && kinds[stop] == kinds[begin]) {
      stop++;
    }
    return stop;
  }
  var stop = start;
  while (stop < codes.length && kinds[stop] == 'space') {
    stop++;
  }
  return stop < codes.length && stop - 1 > start ? stop - 1 : stop;
}

/// The character that ends at a place; -1 at the start.
int _before(String text, int place) {
  if (place <= 0) return -1;
  final low = text.codeUnitAt(place - 1);
  if (low < 0xDC00 || low > 0xDFFF || place < 2) return low;
  return text.substring(place - 2, place).runes.last;
}

/// The character that begins at a place; -1 at the end.
int _after(String text, int place) =>
    place < text.length ? text.substring(place, min(text.length, place + 2)).runes.first : -1;

int _units(int code) => code > 0xFFFF ? 2 : 1;

/// Spaces become a visible mark, which begins a word.
List<String> _metaspace(String text, Map<String, dynamic> split, bool first) {
  final mark = split['mark'] as String;
  var marked = text.replaceAll(' ', mark);
  final wanted = split['prepend'] == 'always' || (split['prepend'] == 'first' && first);
  if (wanted && !marked.startsWith(mark)) marked = mark + marked;
  if (split['split'] != true) return [marked];
  return [for (final (place, word) in marked.split(mark).indexed) place > 0 ? mark + word : word];
}

/// How many tokens of each text stay, the longer one cut first: as the library tokenizers cuts them.
List<int> _shares(List<int> lengths, int room) {
  if (lengths.length == 1) return [min(lengths[0], room)];
  if (lengths[0] + lengths[1] <= room) return lengths;
  var short = min(lengths[0], lengths[1]);
  var long = short > room ? short : max(short, room - short);
  if (short + long > room) {
    short = room ~/ 2;
    long = short + room % 2;
  }
  return lengths[0] <= lengths[1] ? [short, long] : [long, short];
}

/// GPT-2's printable character of each byte: itself where it is printable, else one from U+0100 on, in order.
List<String> _byteCharacters() {
  var next = 0x100;
  return [
    for (var byte = 0; byte < 256; byte++)
      String.fromCharCode(
        (byte >= 0x21 && byte < 0x7F) || (byte >= 0xA1 && byte < 0xAD) || byte >= 0xAE ? byte : next++,
      ),
  ];
}

// What a bundle's Kotlin uses of LiteRT's Java classes, as they are documented. Behind it answers LiteRT itself, in the
// process of `answers.py`: the property `litert.answers` is the command that starts it, its arguments between tabs.

package org.tensorflow.lite;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.io.UncheckedIOException;
import java.nio.Buffer;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.IntBuffer;
import java.nio.LongBuffer;
import java.nio.MappedByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.stream.IntStream;
import org.json.JSONArray;
import org.json.JSONException;
import org.json.JSONObject;

public final class Interpreter implements AutoCloseable {
    public static class Options {
        int threads = -1;

        public Options setNumThreads(int threads) {
            this.threads = threads;
            return this;
        }
    }

    private record Described(DataType dataType, int[] shape) implements Tensor {
        public int numElements() {
            return IntStream.of(shape).reduce(1, (all, side) -> all * side);
        }
    }

    private final Path file;
    private final Process process;
    private final PrintStream asks;
    private final BufferedReader says;
    private final JSONObject entries;
    private boolean open = true;

    public Interpreter(ByteBuffer model, Options options) {
        boolean ordered = model.isDirect() && model.order() == ByteOrder.nativeOrder();
        require(model instanceof MappedByteBuffer || ordered, "the model is neither mapped nor in a direct buffer");
        try {
            file = Files.createTempFile("model", ".tflite");
            try (FileChannel channel = FileChannel.open(file, StandardOpenOption.WRITE)) {
                channel.write(model.duplicate());
            }
            List<String> command = new ArrayList<>(List.of(System.getProperty("litert.answers").split("\t")));
            command.addAll(List.of(file.toString(), String.valueOf(options.threads)));
            process = new ProcessBuilder(command).redirectError(ProcessBuilder.Redirect.INHERIT).start();
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
        asks = new PrintStream(process.getOutputStream(), true, StandardCharsets.UTF_8);
        says = new BufferedReader(new InputStreamReader(process.getInputStream(), StandardCharsets.UTF_8));
        entries = answer();
    }

    public Tensor getInputTensorFromSignature(String inputName, String signatureKey) {
        return tensor("inputs", inputName, signatureKey);
    }

    public Tensor getOutputTensorFromSignature(String outputName, String signatureKey) {
        return tensor("outputs", outputName, signatureKey);
    }

    public void runSignature(Map<String, Object> inputs, Map<String, Object> outputs, String signatureKey) {
        try {
            JSONObject feeds = new JSONObject();
            for (Map.Entry<String, Object> one : inputs.entrySet()) {
                Tensor tensor = tensor("inputs", one.getKey(), signatureKey);
                check(one.getValue(), tensor);
                require(((Buffer) one.getValue()).capacity() == tensor.numElements(), "another number of values");
                feeds.put(one.getKey(), values(one.getValue()));
            }
            asks.println(new JSONObject().put("key", signatureKey).put("inputs", feeds));
            JSONObject found = answer();
            for (Map.Entry<String, Object> one : outputs.entrySet()) {
                Tensor tensor = tensor("outputs", one.getKey(), signatureKey);
                check(one.getValue(), tensor);
                JSONArray given = found.getJSONArray(one.getKey());
                require(((Buffer) one.getValue()).capacity() >= given.length(), "room for fewer values");
                for (int at = 0; at < given.length(); at++) {
                    ((FloatBuffer) one.getValue()).put((float) given.getDouble(at));
                }
            }
        } catch (JSONException error) {
            throw new IllegalStateException(error);
        }
    }

    @Override
    public void close() {
        open = false;
        asks.close();
        process.destroy();
        file.toFile().delete();
    }

    private Tensor tensor(String side, String name, String key) {
        require(open, "the interpreter is closed");
        try {
            JSONObject said = entries.getJSONObject(key).getJSONObject(side).getJSONObject(name);
            JSONArray sides = said.getJSONArray("shape");
            int[] shape = new int[sides.length()];
            for (int at = 0; at < shape.length; at++) {
                shape[at] = sides.getInt(at);
            }
            return new Described(DataType.valueOf(said.getString("type")), shape);
        } catch (JSONException error) {
            throw new IllegalArgumentException(error);
        }
    }

    private JSONObject answer() {
        try {
            String line = says.readLine();
            require(line != null, "LiteRT ended");
            return new JSONObject(line);
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        } catch (JSONException error) {
            throw new IllegalStateException(error);
        }
    }

    /** A buffer of one type is taken by tensors of that type only. */
    private static void check(Object buffer, Tensor tensor) {
        boolean same = switch (tensor.dataType()) {
            case FLOAT32 -> buffer instanceof FloatBuffer;
            case INT32 -> buffer instanceof IntBuffer;
            case INT64 -> buffer instanceof LongBuffer;
            default -> false;
        };
        require(same, "a buffer of another type than " + tensor.dataType());
    }

    private static JSONArray values(Object buffer) throws JSONException {
        JSONArray found = new JSONArray();
        if (buffer instanceof FloatBuffer floats) {
            while (floats.hasRemaining()) {
                found.put((double) floats.get());
            }
        } else if (buffer instanceof IntBuffer ints) {
            while (ints.hasRemaining()) {
                found.put(ints.get());
            }
        } else {
            LongBuffer longs = (LongBuffer) buffer;
            while (longs.hasRemaining()) {
                found.put(longs.get());
            }
        }
        return found;
    }

    private static void require(boolean sound, String otherwise) {
        if (!sound) {
            throw new IllegalArgumentException(otherwise);
        }
    }
}

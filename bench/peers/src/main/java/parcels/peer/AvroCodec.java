package parcels.peer;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import org.apache.avro.io.BinaryDecoder;
import org.apache.avro.io.BinaryEncoder;
import org.apache.avro.io.DecoderFactory;
import org.apache.avro.io.EncoderFactory;
import org.apache.avro.specific.SpecificData;
import org.apache.avro.specific.SpecificDatumReader;
import org.apache.avro.specific.SpecificDatumWriter;
import org.apache.avro.specific.SpecificRecordBase;

/**
 * Records of one schema as Confluent-framed Avro: a zero byte, the schema id in four bytes, the body.
 *
 * <p>Uses Avro's generated coders and keeps its decoder, encoder and buffer between records, so an instance belongs to
 * one thread.
 */
final class AvroCodec<T extends SpecificRecordBase> {
    static final int FRAME_BYTES = 5;

    private final int schemaId;
    private final SpecificDatumReader<T> reader;
    private final SpecificDatumWriter<T> writer;
    private final ByteArrayOutputStream bytes = new ByteArrayOutputStream(4096);
    private final BinaryEncoder encoder = EncoderFactory.get().binaryEncoder(bytes, null);
    private BinaryDecoder decoder;

    AvroCodec(Class<T> type, int schemaId) {
        SpecificData model = SpecificData.getForClass(type);
        // Uses the generated coders, which Avro ignores with the "fast reader" enabled.
        model.setCustomCoders(true);
        model.setFastReaderEnabled(false);
        this.schemaId = schemaId;
        this.reader = new SpecificDatumReader<>(model.getSchema(type), model.getSchema(type), model);
        this.writer = new SpecificDatumWriter<>(model.getSchema(type), model);
    }

    /** The schema id of a framed value, or -1 if it is not framed. */
    static int schemaId(byte[] value) {
        if (value == null || value.length < FRAME_BYTES || value[0] != 0) {
            return -1;
        }
        return (value[1] & 0xff) << 24 | (value[2] & 0xff) << 16 | (value[3] & 0xff) << 8 | value[4] & 0xff;
    }

    /**
     * Reads the body of a framed value.
     *
     * @throws IOException the body is truncated or has bytes after its last field
     */
    T read(byte[] value) throws IOException {
        return read(value, 0);
    }

    /** Reads the body of a framed value that begins at {@code offset}. */
    T read(byte[] value, int offset) throws IOException {
        int body = offset + FRAME_BYTES;
        decoder = DecoderFactory.get().binaryDecoder(value, body, value.length - body, decoder);
        T record = reader.read(null, decoder);
        if (!decoder.isEnd()) {
            throw new IOException("bytes follow the last field");
        }
        return record;
    }

    /** The framed value of a record. */
    byte[] write(T record) {
        bytes.reset();
        bytes.write(0);
        bytes.write(schemaId >>> 24);
        bytes.write(schemaId >>> 16);
        bytes.write(schemaId >>> 8);
        bytes.write(schemaId);
        try {
            writer.write(record, encoder);
            encoder.flush();
        } catch (IOException error) {
            throw new IllegalStateException("a buffer in memory cannot fail", error);
        }
        return bytes.toByteArray();
    }
}

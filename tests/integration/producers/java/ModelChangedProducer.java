import java.io.ByteArrayOutputStream;
import java.io.File;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.time.Instant;
import java.time.temporal.ChronoUnit;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.ExecutionException;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericDatumWriter;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.generic.GenericRecordBuilder;
import org.apache.avro.io.BinaryEncoder;
import org.apache.avro.io.EncoderFactory;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.Producer;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.serialization.StringSerializer;

/** Tells webhook-streams of changes: a {@code ModelChanged} in Confluent's wire format, under its row's key. */
public final class ModelChangedProducer implements AutoCloseable {
    private static final int FRAME_BYTES = 5;
    private static final String USAGE =
        "arguments: BOOTSTRAP TOPIC SCHEMA_FILE SCHEMA_ID TENANT MODEL MODEL_ID MODEL_EVENT PAYLOAD";

    private final String topic;
    private final Schema schema;
    private final int schemaId;
    private final Producer<String, byte[]> producer;

    public ModelChangedProducer(String bootstrapServers, String topic, Schema schema, int schemaId) {
        this.topic = topic;
        this.schema = schema;
        this.schemaId = schemaId;
        // Idempotent and acknowledged by all replicas, as the client is by itself; keys go where murmur2 puts them.
        Map<String, Object> settings = Map.of(
            ProducerConfig.BOOTSTRAP_SERVERS_CONFIG, bootstrapServers,
            ProducerConfig.CLIENT_ID_CONFIG, "model-changed-java");
        this.producer = new KafkaProducer<>(settings, new StringSerializer(), new ByteArraySerializer());
    }

    /** A change; the fields that have a default in the schema may be left out, as here. */
    public GenericRecord change(String tenant, String model, String modelId, String modelEvent, String payload) {
        return new GenericRecordBuilder(schema)
            // Kept with the row and sent again after a fault, it makes the second record harmless.
            .set("change_id", UUID.randomUUID().toString())
            .set("tenant_id", tenant)
            .set("model", model)
            .set("model_id", modelId)
            .set("model_event", modelEvent)
            .set("occurred_at", ChronoUnit.MICROS.between(Instant.EPOCH, Instant.now()))
            .set("payload", payload)
            .set("source", "java")
            .build();
    }

    /** Sends a change and waits until every in-sync replica has it. */
    public RecordMetadata send(GenericRecord change) throws IOException, ExecutionException, InterruptedException {
        String key = partitionKey(
            change.get("tenant_id").toString(), change.get("model").toString(), change.get("model_id").toString());
        return producer.send(new ProducerRecord<>(topic, key, encode(change))).get();
    }

    /** A zero byte, the schema's id in four bytes, the Avro body. */
    private byte[] encode(GenericRecord change) throws IOException {
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        out.write(ByteBuffer.allocate(FRAME_BYTES).put((byte) 0).putInt(schemaId).array());
        BinaryEncoder encoder = EncoderFactory.get().binaryEncoder(out, null);
        new GenericDatumWriter<GenericRecord>(schema).write(change, encoder);
        encoder.flush();
        return out.toByteArray();
    }

    /** One key for all that concerns a row, so that its changes keep their order. */
    static String partitionKey(String tenant, String model, String modelId) {
        return part(tenant) + "|" + part(model) + "|" + modelId.replace("|", "%7C");
    }

    private static String part(String text) {
        return text.replace("%", "%25").replace("|", "%7C").replace(",", "%2C");
    }

    @Override
    public void close() {
        producer.close();
    }

    public static void main(String[] arguments) throws Exception {
        if (arguments.length != 9) {
            System.err.println(USAGE);
            System.exit(2);
        }
        Schema schema = new Schema.Parser().parse(new File(arguments[2]));
        int schemaId = Integer.parseInt(arguments[3]);
        try (ModelChangedProducer producer =
                new ModelChangedProducer(arguments[0], arguments[1], schema, schemaId)) {
            GenericRecord change =
                producer.change(arguments[4], arguments[5], arguments[6], arguments[7], arguments[8]);
            RecordMetadata written = producer.send(change);
            System.out.println(
                written.topic() + " " + written.partition() + " " + written.offset() + " " + change.get("change_id"));
        }
    }
}

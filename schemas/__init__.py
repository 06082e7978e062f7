"""The vocabulary: Avro schemas, typed events and their codec. Knows nothing of Kafka."""

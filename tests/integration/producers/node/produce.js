// Tells of one change: node produce.js BOOTSTRAP TOPIC SCHEMA_FILE SCHEMA_ID TENANT MODEL MODEL_ID MODEL_EVENT PAYLOAD

import { Kafka, Partitioners, logLevel } from 'kafkajs';
import { encoderOf, modelChanged, partitionKey } from './model_changed.js';

if (process.argv.length !== 11) {
  console.error('usage: node produce.js BOOTSTRAP TOPIC SCHEMA_FILE SCHEMA_ID TENANT MODEL MODEL_ID MODEL_EVENT PAYLOAD');
  process.exit(2);
}
const [bootstrap, topic, schemaFile, schemaId, tenantId, model, modelId, modelEvent, payload] = process.argv.slice(2);

const encode = encoderOf(schemaFile, Number(schemaId));
const change = modelChanged({ tenantId, model, modelId, modelEvent, payload, source: 'node' });

const kafka = new Kafka({ clientId: 'model-changed-node', brokers: bootstrap.split(','), logLevel: logLevel.ERROR });
// The partitioner that Java's own client uses too: all producers agree where a row's changes lie.
const producer = kafka.producer({ idempotent: true, createPartitioner: Partitioners.DefaultPartitioner });
await producer.connect();
try {
  const messages = [{ key: partitionKey(tenantId, model, modelId), value: encode(change) }];
  const [written] = await producer.send({ topic, acks: -1, messages });
  console.log(`${topic} ${written.partition} ${written.baseOffset} ${change.change_id}`);
} finally {
  await producer.disconnect();
}

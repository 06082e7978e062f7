// A ModelChanged record: Confluent's wire format (a zero byte, the schema's id in four bytes, the Avro body) and its key.

import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import avro from 'avsc';

const FRAME_BYTES = 5;

/** Reads the schema, and gives a function from a change to the bytes of its record. */
export function encoderOf(schemaFile, schemaId) {
  const type = avro.Type.forSchema(JSON.parse(readFileSync(schemaFile, 'utf8')));
  const frame = Buffer.alloc(FRAME_BYTES);
  frame.writeUInt32BE(schemaId, 1);
  return (change) => Buffer.concat([frame, type.toBuffer(change)]);
}

/** A change with all fields of the schema; those that have a default may be left out, as here. */
export function modelChanged({ tenantId, model, modelId, modelEvent, payload, source }) {
  return {
    // Kept with the row and sent again after a fault, it makes the second record harmless.
    change_id: randomUUID(),
    tenant_id: tenantId,
    model,
    model_id: modelId,
    model_event: modelEvent,
    // Microseconds, which is what the schema's timestamp-micros counts.
    occurred_at: Date.now() * 1000,
    payload,
    source,
  };
}

/** One key for all that concerns a row, so that its changes keep their order. */
export function partitionKey(tenantId, model, modelId) {
  const part = (text) => text.replaceAll('%', '%25').replaceAll('|', '%7C').replaceAll(',', '%2C');
  return [part(tenantId), part(model), modelId.replaceAll('|', '%7C')].join('|');
}

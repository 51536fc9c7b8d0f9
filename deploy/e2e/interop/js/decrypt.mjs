// Opens messages as a consumer of Aurora's streams does, with AWS's own client:
// the settings are those of AWS's sample consumer in JavaScript.
//
// Each line of stdin is {"key": <data key, base64>, "message": <base64>}, where
// the message is what the outer record has in databaseActivityEvents and the
// key is what KMS makes of its field key. Each line of stdout is the inner
// record as it was sealed: one line of JSON. With "raw": true in a line it is
// {"plaintext": <base64>} instead, for messages that hold no gzip.
//
// A message that is refused gives {"error": …}, and the exit code is 1 at the end.
import { createInterface } from 'node:readline'
import { gunzipSync } from 'node:zlib'
import {
  buildDecrypt,
  CommitmentPolicy,
  RawAesKeyringNode,
  RawAesWrappingSuiteIdentifier,
} from '@aws-crypto/client-node'

const { decrypt } = buildDecrypt(CommitmentPolicy.REQUIRE_ENCRYPT_ALLOW_DECRYPT)

async function open(line) {
  const { key, message, raw, namespace = 'BC' } = JSON.parse(line)
  const unencryptedMasterKey = new Uint8Array(Buffer.from(key, 'base64'))
  const keyring = new RawAesKeyringNode({
    keyName: 'DataKey',
    keyNamespace: namespace,
    unencryptedMasterKey,
    wrappingSuite: RawAesWrappingSuiteIdentifier.AES256_GCM_IV12_TAG16_NO_PADDING,
  })
  const { plaintext } = await decrypt(keyring, Buffer.from(message, 'base64'))
  if (raw) return JSON.stringify({ plaintext: plaintext.toString('base64') })
  const record = gunzipSync(plaintext).toString('utf8')
  JSON.parse(record)
  return record
}

for await (const line of createInterface({ input: process.stdin })) {
  if (line === '') continue
  try {
    process.stdout.write((await open(line)) + '\n')
  } catch (err) {
    process.stdout.write(JSON.stringify({ error: String(err?.message ?? err) }) + '\n')
    process.exitCode = 1
  }
}

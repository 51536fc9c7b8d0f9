// Seals messages with AWS's own client, for our side to open.
//
// Each line of stdin is {"key": <base64>, "plaintext": <base64>, "signed": bool,
// "frameLength": bytes, "context": {name: value}}; all but the first two may be
// absent. Each line of stdout is {"message": <base64>}.
import { createInterface } from 'node:readline'
import {
  AlgorithmSuiteIdentifier,
  buildEncrypt,
  CommitmentPolicy,
  RawAesKeyringNode,
  RawAesWrappingSuiteIdentifier,
} from '@aws-crypto/client-node'

const { encrypt } = buildEncrypt(CommitmentPolicy.FORBID_ENCRYPT_ALLOW_DECRYPT)

for await (const line of createInterface({ input: process.stdin })) {
  if (line === '') continue
  const { key, plaintext, signed = false, frameLength = 4096, context = {} } = JSON.parse(line)
  const keyring = new RawAesKeyringNode({
    keyName: 'DataKey',
    keyNamespace: 'BC',
    unencryptedMasterKey: new Uint8Array(Buffer.from(key, 'base64')),
    wrappingSuite: RawAesWrappingSuiteIdentifier.AES256_GCM_IV12_TAG16_NO_PADDING,
  })
  const { result } = await encrypt(keyring, Buffer.from(plaintext, 'base64'), {
    suiteId: signed
      ? AlgorithmSuiteIdentifier.ALG_AES256_GCM_IV12_TAG16_HKDF_SHA384_ECDSA_P384
      : AlgorithmSuiteIdentifier.ALG_AES256_GCM_IV12_TAG16_HKDF_SHA256,
    frameLength,
    encryptionContext: context,
  })
  process.stdout.write(JSON.stringify({ message: result.toString('base64') }) + '\n')
}

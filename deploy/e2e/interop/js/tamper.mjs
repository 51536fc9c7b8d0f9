// Does to a stream what an attacker would, with AWS's own client and nothing of
// Weir's: it was written from docs/flow.md alone.
//
// The line of stdin is {"attack": <name>, "records": [{"key": <data key, base64>,
// "message": <base64>}, …]}, in an order of their own. The line of stdout is
// {"messages": [<base64>, …], "from": [<index of the record whose key it is under>, …]}.
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { gunzipSync, gzipSync } from 'node:zlib'
import {
  AlgorithmSuiteIdentifier, buildClient, CommitmentPolicy, RawAesKeyringNode, RawAesWrappingSuiteIdentifier,
} from '@aws-crypto/client-node'

const { encrypt, decrypt } = buildClient(CommitmentPolicy.FORBID_ENCRYPT_ALLOW_DECRYPT)

function keyring(key) {
  return new RawAesKeyringNode({
    keyName: 'DataKey', keyNamespace: 'BC', unencryptedMasterKey: new Uint8Array(Buffer.from(key, 'base64')),
    wrappingSuite: RawAesWrappingSuiteIdentifier.AES256_GCM_IV12_TAG16_NO_PADDING,
  })
}

// The parts of a record as text: JSON.parse and back would not keep every byte.
function open(text) {
  const m = text.match(/^(\{.*?"databaseActivityEventList":\[)(.*)(\],"weir":)(\{.*\})\}$/s)
  const weir = JSON.parse(m[4])
  return { head: m[1], list: split(m[2]), mid: m[3], weir }
}

const close = (r) => r.head + r.list.join(',') + r.mid + JSON.stringify(r.weir) + '}'

// split cuts a JSON list's inside into its elements.
function split(text) {
  const parts = []
  let depth = 0, quoted = false, from = 0
  for (let i = 0; i < text.length; i++) {
    const c = text[i]
    if (quoted) {
      if (c === '\\') i++
      else if (c === '"') quoted = false
    } else if (c === '"') quoted = true
    else if (c === '{' || c === '[') depth++
    else if (c === '}' || c === ']') depth--
    else if (c === ',' && depth === 0) {
      parts.push(text.slice(from, i))
      from = i + 1
    }
  }
  parts.push(text.slice(from))
  return parts
}

function be(n) {
  const b = Buffer.alloc(8)
  b.writeBigUInt64BE(BigInt(n))
  return b
}

const follow = (h, n, text) => createHash('sha256').update(h).update(be(n)).update(text).digest()

// chain computes a record's hashes anew, from prev, and returns its end.
function chain(r, prev) {
  let h = prev
  const items = []
  for (let i = 0; i < r.weir.n.length; ) {
    let j = i
    while (j < r.weir.n.length && r.weir.n[j] === r.weir.n[i]) j++
    items.push([r.weir.n[i], r.list.slice(i, j).join(',')])
    i = j
  }
  for (const g of r.weir.gaps ?? []) items.push([g.last, JSON.stringify(g)])
  for (const o of [...(r.weir.started ?? []), ...(r.weir.notices ?? [])]) items.push([o.n, JSON.stringify(o)])
  items.sort((a, b) => a[0] - b[0])
  for (const [n, text] of items) h = follow(h, n, text)
  r.weir.prev = prev.toString('hex')
  r.weir.last = h.toString('hex')
  return h
}

const genesis = (epoch) => createHash('sha256').update('weir chain v1').update(be(epoch)).digest()
const change = (element) => element.replace(/"commandText":"(.*?[^\\])"/s, '"commandText":"SELECT 1"')

const attacks = {
  // of a holder of the stream
  nothing: (all) => all,
  remove: (all, v) => all.filter((r) => r !== v),
  'cut off the end': (all) => all.filter((r, i) => r.weir.n.length === 0 || i < all.length * 0.6),
  'alter ciphertext': (all, v) => { v.flip = true; return all },
  replay: (all, v) => [...all, v, v],
  // of a holder of the data key
  'alter a text': (all, v) => { v.list[0] = change(v.list[0]); v.again = true; return all },
  'alter a text and its record': (all, v) => { v.list[0] = change(v.list[0]); v.again = true; chain(v, Buffer.from(v.weir.prev, 'hex')); return all },
  reorder: (all, v) => { [v.list[0], v.list[1]] = [v.list[1], v.list[0]]; v.again = true; return all },
  'take an event out': (all, v) => { v.list.splice(1, 1); v.weir.n.splice(1, 1); v.again = true; chain(v, Buffer.from(v.weir.prev, 'hex')); return all },
  'replay under other numbers': (all, v) => {
    const last = all.filter((r) => r.weir.n.length).at(-1)
    const copy = structuredClone(v)
    copy.weir.n = v.weir.n.map((n) => n - v.weir.n[0] + last.weir.n[0])
    copy.again = true
    chain(copy, Buffer.from(last.weir.prev, 'hex'))
    return [...all, copy]
  },
  'splice epochs': (all, v) => {
    v.weir.epoch += 1_000_000
    v.again = true
    return [...all]
  },
  'splice a record into the past': (all, v) => {
    const first = all.find((r) => r.weir.n.length)
    const copy = structuredClone(v)
    copy.weir.n = v.weir.n.map((n) => n - v.weir.n[0] + first.weir.n[0])
    copy.again = true
    chain(copy, Buffer.from(first.weir.prev, 'hex'))
    return [...all, copy]
  },
  forge: (all, v) => {
    const copy = structuredClone(v)
    copy.list[0] = change(copy.list[0])
    copy.again = true
    chain(copy, Buffer.from(copy.weir.prev, 'hex'))
    return [...all, copy]
  },
  'tell a loss that was none': (all, v) => {
    const n = v.weir.n
    v.weir.gaps = [{ first: n[0], last: n.at(-1), from: '2026-01-01 00:00:00.000000+00', to: '2026-01-01 00:00:00.000000+00', cause: 'ring_full' }]
    v.weir.n = []
    v.list = ['{"type":"heartbeat"}']
    v.again = true
    chain(v, Buffer.from(v.weir.prev, 'hex'))
    return all
  },
  // Everything from the victim on is chained anew, heartbeats included: a history
  // without a flaw in it, but for what crypto signed.
  'write the past anew': (all, v) => {
    const numbered = all.filter((r) => r.weir.n.length || r.weir.gaps).sort((a, b) => first(a) - first(b))
    v.list[0] = change(v.list[0])
    const after = new Map([[0, genesis(v.weir.epoch)]])
    let h = after.get(0)
    for (const r of numbered) {
      h = chain(r, h)
      r.again = true
      after.set(Math.max(...r.weir.n, ...(r.weir.gaps ?? []).map((g) => g.last)), h)
    }
    for (const r of all.filter((r) => r.weir.through !== undefined)) {
      if (!after.has(r.weir.through)) continue
      r.weir.prev = r.weir.last = after.get(r.weir.through).toString('hex')
      r.again = true
    }
    return all.filter((r) => r.weir.through === undefined || after.has(r.weir.through))
  },
  'write the past anew, and take the signatures out': (all, v) => {
    for (const r of all) {
      if (r.weir.checkpoint) r.again = true
      delete r.weir.checkpoint
    }
    return attacks['write the past anew'](all, v)
  },
}

const first = (r) => Math.min(...r.weir.n, ...(r.weir.gaps ?? []).map((g) => g.first))

const { attack, records } = JSON.parse(readFileSync(0, 'utf8'))
const all = await Promise.all(records.map(async ({ key, message }, from) => {
  const { plaintext } = await decrypt(keyring(key), Buffer.from(message, 'base64'))
  return { ...open(gunzipSync(plaintext).toString('utf8')), from, message }
}))
all.sort((a, b) => (a.weir.n[0] ?? a.weir.through ?? 0) - (b.weir.n[0] ?? b.weir.through ?? 0))
const full = all.filter((r) => r.weir.n.length > 1 && new Set(r.weir.n).size === r.weir.n.length)
// The victim lies in the middle, has events with a text, and others behind it.
const victim = full.filter((r) => /"commandText":"/.test(r.list[0])).at(Math.floor(full.length / 3))
const tampered = attacks[attack](all, victim)

const messages = await Promise.all(tampered.map(async (r) => {
  if (r.flip) {
    const b = Buffer.from(r.message, 'base64')
    b[b.length >> 1] ^= 1
    return b.toString('base64')
  }
  if (!r.again) return r.message
  const { result } = await encrypt(keyring(records[r.from].key), gzipSync(close(r)), {
    suiteId: AlgorithmSuiteIdentifier.ALG_AES256_GCM_IV12_TAG16_HKDF_SHA256, frameLength: 4096, encryptionContext: {},
  })
  return result.toString('base64')
}))
process.stdout.write(JSON.stringify({ messages, from: tampered.map((r) => r.from) }) + '\n')

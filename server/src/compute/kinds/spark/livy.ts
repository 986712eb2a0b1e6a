// Livy's batches, asked for from the head node: its address is as seen from there, and it need not be reached from anywhere else.
import type { SettingsOf } from '@stellwerk/contract/compute-settings.ts';
import { TargetError } from '@stellwerk/contract/errors.ts';
import type { SshConnection } from '../../../exec/ssh/connection.ts';
import type { Asked } from './asked.ts';

interface Batch {
  id: number;
  name?: string | null;
  state: string;
}
/** `over`: with what Livy said last. `gone`: Livy knows it no more. */
export type BatchState = { state: 'open' } | { state: 'over'; said: string } | { state: 'gone' };

const answersWithinMs = 60_000;
const open = new Set(['not_started', 'starting', 'recovering', 'running', 'idle', 'busy', 'shutting_down']);
const atATime = 100;

/** One request, as it comes on standard input; the answer is a line of JSON. */
const request = `
import base64, json, sys, urllib.error, urllib.request
asked = json.load(sys.stdin)
headers = {"X-Requested-By": "stellwerk", "Content-Type": "application/json"}
if asked.get("user"):
    pair = "%s:%s" % (asked["user"], asked.get("password") or "")
    headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
body = asked.get("body")
data = None if body is None else json.dumps(body).encode()
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
try:
    with opener.open(urllib.request.Request(asked["url"], data, headers, method=asked["method"]), timeout=30) as answer:
        status, text = answer.status, answer.read()
except urllib.error.HTTPError as error:
    status, text = error.code, error.read()
except OSError as error:
    sys.exit("Livy cannot be reached at %s: %s" % (asked["url"], getattr(error, "reason", error)))
print(json.dumps({"status": status, "text": text.decode("utf-8", "replace")}))
`;

export class Livy {
  readonly #connection: SshConnection;
  readonly #settings: SettingsOf<'spark'>;
  readonly #with: { bundle?: string; password?: string };

  constructor(connection: SshConnection, settings: SettingsOf<'spark'>, more: { bundle?: string; password?: string }) {
    this.#connection = connection;
    this.#settings = settings;
    this.#with = more;
  }

  async find(name: string): Promise<number | undefined> {
    for (let from = 0; ; from += atATime) {
      const { sessions = [] } = (await this.#ask('GET', `?from=${from}&size=${atATime}`)) as { sessions?: Batch[] };
      const found = sessions.find((batch) => batch.name === name);
      if (found || sessions.length < atATime) return found?.id;
    }
  }

  /** A batch whose driver becomes the runner of the job in the folder. */
  async start(name: string, folder: string, spark: Asked): Promise<number> {
    const { executors = {}, driverMemory, packages, repositories, settings } = spark;
    const { count, cores, memory } = executors;
    const properties = {
      ...settings,
      'spark.pyspark.driver.python': this.#settings.python,
      ...(packages?.length && { 'spark.jars.packages': packages.join(',') }),
      ...(repositories?.length && { 'spark.jars.repositories': repositories.join(',') }),
      // A standalone master knows no number of executors, only the cores of all of them.
      ...(count !== undefined && { 'spark.cores.max': String(count * (cores ?? 1)) }),
    };
    const body = {
      file: `file:${this.#with.bundle}/stellwerk/runner/batch.py`,
      args: [folder],
      name,
      conf: properties,
      ...(driverMemory !== undefined && { driverMemory }),
      ...(memory !== undefined && { executorMemory: memory }),
      ...((cores ?? count) !== undefined && { executorCores: cores ?? 1 }),
      ...(count !== undefined && { numExecutors: count }),
    };
    const { id } = (await this.#ask('POST', '', body)) as Batch;
    return id;
  }

  async look(id: number): Promise<BatchState> {
    const batch = (await this.#ask('GET', `/${id}`)) as Batch | undefined;
    if (!batch) return { state: 'gone' };
    if (open.has(batch.state)) return { state: 'open' };
    const { log = [] } = ((await this.#ask('GET', `/${id}/log?size=50`)) ?? {}) as { log?: string[] };
    const lines = log.map((line) => line.trim()).filter((line) => line !== '' && !/^(stdout|stderr):/.test(line));
    return { state: 'over', said: lines.findLast((line) => !line.startsWith('at ')) ?? `it is ${batch.state}` };
  }

  /** Safe twice. */
  async remove(id: number): Promise<void> {
    await this.#ask('DELETE', `/${id}`);
  }

  /** Undefined if there is no such batch. */
  async #ask(method: string, path: string, body?: object): Promise<unknown> {
    const { livy = '', livyUser, python, address } = this.#settings;
    const url = `${livy.replace(/\/+$/, '')}/batches${path}`;
    const { password } = this.#with;
    const asked = { method, url, body, user: livyUser, password };
    const ended = await this.#connection.run({
      words: [python, '-I', '-S', '-c', request],
      input: JSON.stringify(asked),
      timeoutMs: answersWithinMs,
    });
    if (ended.code !== 0)
      throw new TargetError('later', ended.stderr.trim().split('\n').at(-1) || `Livy was not asked on ${address}.`);
    const { status, text } = JSON.parse(ended.stdout) as { status: number; text: string };
    if (status === 404) return undefined;
    if (status < 300) return text === '' ? undefined : JSON.parse(text);
    if (status === 401 || status === 403) throw new TargetError('never', `Livy at ${livy} refused the sign-in.`);
    throw new TargetError(status < 500 ? 'never' : 'later', `Livy at ${livy} refused: ${text.slice(0, 500)}`);
  }
}

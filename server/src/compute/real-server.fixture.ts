// A real server for the tests of compute targets: runners report to it, and what came of a run is asked of it.
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import type { Job } from '@stellwerk/contract/job.ts';
import type { Run, RunFile } from '@stellwerk/contract/run.ts';
import type { RunConfiguration, RunConfigurationInput } from '@stellwerk/contract/run-configuration.ts';
import { endStates } from '@stellwerk/contract/run-state.ts';
import { apiPrefix } from '@stellwerk/contract/verbs.ts';
import { ZipFile } from 'yazl';
import { freePort } from '../../../test/ports.ts';
import { startServer } from '../main.ts';
import type { JobOrder } from './driver.ts';

const workspace = 'suite';

export class RealServer implements AsyncDisposable {
  readonly folder: string;
  readonly url: string;
  /** The address that others reach it at. */
  readonly publicUrl: string;
  /** What jobs have in their configuration that is not for the target that runs are submitted to here. */
  inJobs: Partial<RunConfiguration> = {};
  /** The ids of all orders of jobs so far. */
  readonly ordered = new Set<string>();
  readonly #token: string;
  readonly #stop: () => Promise<void>;

  private constructor(
    folder: string,
    at: { url: string; publicUrl: string },
    token: string,
    stop: () => Promise<void>,
  ) {
    this.folder = folder;
    this.url = at.url;
    this.publicUrl = at.publicUrl;
    this.#token = token;
    this.#stop = stop;
  }

  static async start(publicUrl?: string): Promise<RealServer> {
    const folder = mkdtempSync(join(tmpdir(), 'stellwerk-suite-'));
    process.env.STELLWERK_RUN_LEASE_MS = '3000';
    const at = { port: publicUrl === undefined ? 0 : Number(await freePort()), servicesPort: 0 };
    const server = await startServer({
      data: join(folder, 'data'),
      ...at,
      ...(publicUrl !== undefined && { publicUrl }),
    });
    const url = publicUrl === undefined ? server.url : `http://127.0.0.1:${at.port}`;
    const code = new URL(server.signIn!.url).hash.slice(1);
    const answer = await fetch(`${url}${apiPrefix}/sign-in/redeem`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ code }),
    });
    const { token } = (await answer.json()) as { token: string };
    const started = new RealServer(folder, { url, publicUrl: publicUrl ?? url }, token, () => server.stop());
    await started.ask('POST', '/workspaces', { name: workspace });
    return started;
  }

  /** A run of the script, as it is handed to a compute target. */
  async order(script: string, configuration: Partial<RunConfigurationInput> = {}): Promise<JobOrder> {
    const { id } = await this.submit(script, configuration);
    const job = await this.ask<Job>('POST', `/workspaces/${workspace}/runs/${id}/job`, {});
    const asked = { ...job, configuration: { ...job.configuration, ...this.inJobs } };
    const order = { id: JSON.stringify([workspace, id, job.attempt]), job: asked };
    this.ordered.add(order.id);
    return order;
  }

  async submit(script: string, configuration: Partial<RunConfigurationInput> = {}): Promise<Run> {
    const snapshot = await this.#snapshot({ 'train.py': script });
    return this.ask<Run>('POST', `/workspaces/${workspace}/runs`, {
      experiment: 'suite',
      snapshot,
      configuration: { script: 'train.py', environment: { userManaged: true }, graceSeconds: 1, ...configuration },
    });
  }

  run(of: JobOrder | string): Promise<Run> {
    return this.ask('GET', `/workspaces/${workspace}/runs/${idOf(of)}`);
  }

  /** The run once it has ended, however. */
  async ended(of: JobOrder | string): Promise<Run | undefined> {
    const run = await this.run(of);
    return endStates.includes(run.state) ? run : undefined;
  }

  async files(of: JobOrder | string): Promise<string[]> {
    const { items } = await this.ask<{ items: RunFile[] }>('GET', `/workspaces/${workspace}/runs/${idOf(of)}/files`);
    return items.map(({ path }) => path);
  }

  async sizes(of: JobOrder | string): Promise<Record<string, number>> {
    const { items } = await this.ask<{ items: RunFile[] }>('GET', `/workspaces/${workspace}/runs/${idOf(of)}/files`);
    return Object.fromEntries(items.map(({ path, sizeBytes }) => [path, sizeBytes]));
  }

  /** That of the script unless one is named, which must be there. */
  async log(of: JobOrder | string, name?: string): Promise<string> {
    const search = name === undefined ? '' : `?name=${name}`;
    return (await this.#fetch('GET', `/workspaces/${workspace}/runs/${idOf(of)}/log${search}`)).text();
  }

  async cancel(of: JobOrder | string): Promise<void> {
    await this.ask('POST', `/workspaces/${workspace}/runs/${idOf(of)}/cancel`, {});
  }

  async ask<T>(method: string, path: string, body?: unknown): Promise<T> {
    return (await this.#fetch(method, path, body)).json() as Promise<T>;
  }

  async #snapshot(contents: Record<string, string>): Promise<string> {
    const files = Object.entries(contents).map(([path, text]) => ({
      path,
      digest: `sha256:${createHash('sha256').update(text).digest('hex')}`,
      sizeBytes: Buffer.byteLength(text),
    }));
    const { digest } = await this.ask<{ digest: string }>('POST', `/workspaces/${workspace}/snapshots`, { files });
    const zip = new ZipFile();
    for (const [path, text] of Object.entries(contents)) zip.addBuffer(Buffer.from(text), path);
    zip.end();
    const archive = await buffer(zip.outputStream as NodeJS.ReadableStream);
    await this.#fetch('PUT', `/workspaces/${workspace}/snapshots/${digest}/files`, archive);
    return digest;
  }

  async #fetch(method: string, path: string, body?: unknown): Promise<Response> {
    const isRaw = body instanceof Uint8Array;
    const answer = await fetch(this.url + apiPrefix + path, {
      method,
      headers: {
        authorization: `Bearer ${this.#token}`,
        ...(body !== undefined && { 'content-type': isRaw ? 'application/octet-stream' : 'application/json' }),
      },
      ...(body !== undefined && { body: isRaw ? (body as Uint8Array<ArrayBuffer>) : JSON.stringify(body) }),
    });
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${await answer.text()}`);
    return answer;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stop();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

function idOf(of: JobOrder | string): string {
  return typeof of === 'string' ? of : of.job.run;
}

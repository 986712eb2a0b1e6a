// The activity that empties the trash of a workspace, or tells what that would free.
import type { SelectionReport } from '@stellwerk/contract/run-selection.ts';
import type { Outcome, Work } from '../activity/activities.ts';
import type { Models } from '../model/models.ts';
import type { RunSelections, Runs } from '../run/runs.ts';
import type { Emptying, Trash, TrashRow } from '../trash/trash.ts';

export interface EmptyTrashNeeds {
  now(): number;
  trash: Pick<Trash, 'entries' | 'remove'>;
  runs: Pick<Runs, 'keysInTrash'>;
  models: Pick<Models, 'filesInTrash'>;
  selections: Pick<RunSelections, 'measure'>;
}

export class EmptyTrash {
  readonly #needs: EmptyTrashNeeds;

  constructor(needs: EmptyTrashNeeds) {
    this.#needs = needs;
  }

  async act(work: Work): Promise<Outcome> {
    const { dryRun, ...asked } = work.input as Emptying;
    const { workspace } = work.activity;
    const report = dryRun
      ? await this.#measure({ workspace, ...asked }, work)
      : await this.#empty({ workspace, ...asked }, work);
    await work.report(report);
    const { runs, models = 0 } = report;
    return { state: 'succeeded', message: `${dryRun ? 'It would be' : 'Deleted'} ${runs} runs and ${models} models.` };
  }

  async #measure(of: Parameters<Trash['entries']>[0], { signal }: Work): Promise<SelectionReport> {
    const measure = this.#needs.selections.measure();
    for await (const entry of this.#entries(of, signal)) {
      if (entry.kind === 'model')
        for (const files of await this.#needs.models.filesInTrash(entry.id)) measure.addModel(files);
      else await measure.addRuns(await this.#needs.runs.keysInTrash(entry.id));
    }
    return measure.report();
  }

  async #empty(of: Parameters<Trash['entries']>[0], work: Work): Promise<SelectionReport> {
    const before = work.activity.report as SelectionReport | undefined;
    let report = { runs: before?.runs ?? 0, models: before?.models ?? 0 };
    for await (const entry of this.#entries(of, work.signal)) {
      const after =
        entry.kind === 'model'
          ? { ...report, models: report.models + 1 }
          : { ...report, runs: report.runs + (entry.runs ?? 0) };
      const message = `Deleted ${after.runs} runs and ${after.models} models.`;
      const change = {
        state: 'running',
        report: after,
        message,
        at: new Date(this.#needs.now()).toISOString(),
      } as const;
      const noting = { activity: work.activity.id, fence: work.fence, change };
      if (await this.#needs.trash.remove(entry, work.signal, noting)) report = after;
    }
    return report;
  }

  async *#entries(of: Parameters<Trash['entries']>[0], signal: AbortSignal): AsyncGenerator<TrashRow> {
    for (let after = 0; ; ) {
      const entries = await this.#needs.trash.entries(of, after);
      for (const entry of entries) {
        signal.throwIfAborted();
        yield entry;
      }
      if (entries.length < 1_000) return;
      after = entries.at(-1)!.id;
    }
  }
}

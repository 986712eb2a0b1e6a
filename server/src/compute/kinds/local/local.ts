// The machine of whoever submits: just there, for its user only. The SDK or CLI starts the runner there; the server only records.
import type { ComputeDriver } from '../../driver.ts';

export const localDriver: ComputeDriver<'local'> = {
  kind: 'local',
  hostsServices: false,
  async probe() {
    const detail = 'The machine of whoever submits; its own Python is looked at when a run is taken up there.';
    return { usable: true, findings: [{ what: 'local', ok: true, detail }] };
  },
  reach: () => 'elsewhere',
  queue: ({ workspace, name }) => `local/${workspace}/${name}`,
};

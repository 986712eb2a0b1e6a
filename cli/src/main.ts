// `stellwerk`, the command line: reads what was typed, does it, and ends with 0 (done), 1 (failed) or 2 (called wrongly).
import { enableCompileCache } from 'node:module';
import { version } from './version.ts';

enableCompileCache();

async function main(typed: string[]): Promise<number> {
  if (typed.length === 1 && (typed[0] === '--version' || typed[0] === '-V')) {
    process.stdout.write(`${version}\n`);
    return 0;
  }
  const [{ CommanderError }, { buildProgram, calledBy }, { tellFailure }] = await Promise.all([
    import('commander'),
    import('./program.ts'),
    import('./failures.ts'),
  ]);
  try {
    await (await buildProgram(calledBy(typed))).parseAsync(typed, { from: 'user' });
    return Number(process.exitCode ?? 0);
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
    return tellFailure(error, typed.includes('--json'));
  }
}

// A reader that has seen enough (`| head`) is no failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0);
  throw error;
});
process.exitCode = await main(process.argv.slice(2));

// `npm start`: the product on a lasting data folder, as `stellwerk up` starts it. What is given is passed on.
import { join } from 'node:path';

process.argv = [
  process.argv[0]!,
  join(import.meta.dirname, '..', 'cli', 'src', 'main.ts'),
  'up',
  ...process.argv.slice(2),
];
await import('../cli/src/main.ts');

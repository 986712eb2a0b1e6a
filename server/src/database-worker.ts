// The entry of the database worker thread. Importing the stores declares their transactions in this thread.
import './stores.ts';
import { serveDatabase } from './db/worker.ts';
import { giveBackStartUpMemory } from './start-up-memory.ts';

serveDatabase();
giveBackStartUpMemory();

// The version of all of Stellwerk: that of the published package.
import manifest from '../../cli/package.json' with { type: 'json' };

export const version: string = manifest.version;

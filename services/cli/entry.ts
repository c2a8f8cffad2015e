// The program's own file, for whoever starts it again as a child.
import { fileURLToPath } from "node:url";

export const entry = fileURLToPath(new URL("../drawbridge.ts", import.meta.url));

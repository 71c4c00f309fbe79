import { server } from "./web.mjs";

server.listen(8080);
